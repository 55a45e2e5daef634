"""Asks an `annfusion serve` in SQL, through ADBC, and gets data frames. Needs pyarrow,
adbc-driver-flightsql and adbc-driver-manager, and pandas or polars for the frames.

    $ annfusion serve atlas.h5ad
    $ python examples/python/query.py grpc://127.0.0.1:50051 "SELECT cell_type, count(*) AS cells FROM atlas.obs GROUP BY cell_type"

Tables are named as objects are served: `atlas.cells`, `atlas.obs`, `atlas.var`, `atlas.X_coo`, …
"""

import argparse

import adbc_driver_flightsql.dbapi as dbapi


def query(server, statement, token=None):
    """The rows of a statement as a pyarrow table."""
    headers = {"adbc.flight.sql.authorization_header": f"Bearer {token}"} if token else {}
    with dbapi.connect(server, db_kwargs=headers, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetch_arrow_table()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server")
    parser.add_argument("statement")
    parser.add_argument("--token")
    args = parser.parse_args()
    table = query(args.server, args.statement, args.token)
    try:
        import polars

        print(polars.from_arrow(table))
    except ImportError:
        print(table.to_pandas().to_string(max_rows=20))


if __name__ == "__main__":
    main()
