//! `gene`, `n_genes` and `total_counts`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::functions::lists;
use crate::model::{AxisRegistry, FieldMeta, MatrixKind};

/// A function of one matrix column that gives a number per row.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct MatrixFunction {
    kind: Kind,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Gene,
    NGenes,
    TotalCounts,
}

/// A call of a [`MatrixFunction`] on a plain column, as a scan can compute it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MatrixCall {
    /// The value of the gene of this name.
    Gene(String),
    /// How many values are not zero.
    NGenes,
    /// The sum of the values.
    TotalCounts,
}

impl MatrixFunction {
    /// `gene(X, 'NAME')`: the row's value of a gene, 0 where none is stored.
    pub fn gene() -> Self {
        Self::new(Kind::Gene, 2)
    }

    /// `n_genes(X)`: how many values of the row are not zero (scanpy's `n_genes_by_counts`).
    pub fn n_genes() -> Self {
        Self::new(Kind::NGenes, 1)
    }

    /// `total_counts(X)`: the sum of the row, in double precision.
    pub fn total_counts() -> Self {
        Self::new(Kind::TotalCounts, 1)
    }

    fn new(kind: Kind, n_args: usize) -> Self {
        Self {
            kind,
            signature: Signature::any(n_args, Volatility::Immutable),
        }
    }

    /// The column's position and the call, where `expr` is a call on a column.
    pub fn call_on_column(expr: &dyn PhysicalExpr) -> Option<(usize, MatrixCall)> {
        let call = ScalarFunctionExpr::try_downcast_func::<Self>(expr)?;
        let function = call.fun().inner().downcast_ref::<Self>()?;
        let column = call.args().first()?.downcast_ref::<Column>()?;
        let call = match function.kind {
            Kind::Gene => {
                let name = call.args().get(1)?.downcast_ref::<Literal>()?;
                MatrixCall::Gene(name.value().try_as_str()??.to_owned())
            }
            Kind::NGenes => MatrixCall::NGenes,
            Kind::TotalCounts => MatrixCall::TotalCounts,
        };
        Some((column.index(), call))
    }

    /// The position of a gene on the axis a field names.
    fn position(field: &Field, gene: Option<&ScalarValue>) -> Result<Option<usize>> {
        let Some(Some(Some(gene))) = gene.map(ScalarValue::try_as_str) else {
            return plan_err!("gene(X, 'NAME') takes the name of one gene as text");
        };
        let Some(axis) = FieldMeta::of(field).axis else {
            return plan_err!(
                "gene({}, '{gene}'): the column does not say which genes it is over; rows of several objects are brought to one var axis by merge(...)",
                field.name()
            );
        };
        // On another machine an axis is known only once its object is open; the scan checks again.
        let Some(axis) = AxisRegistry::global().get(&axis) else {
            return Ok(None);
        };
        match axis.position(gene) {
            Ok(position) => Ok(Some(position)),
            Err(message) => plan_err!("{message}"),
        }
    }
}

impl ScalarUDFImpl for MatrixFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Gene => "gene",
            Kind::NGenes => "n_genes",
            Kind::TotalCounts => "total_counts",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("{} states its field", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let Some(matrix) = args.arg_fields.first() else {
            return plan_err!("{} takes a matrix column", self.name());
        };
        let Some(value) = value_type(matrix.data_type()) else {
            return plan_err!(
                "{}(...) takes a matrix column such as X, but {} is of type {}",
                self.name(),
                matrix.name(),
                matrix.data_type()
            );
        };
        if !(value.is_numeric() || value == DataType::Boolean) {
            return plan_err!(
                "{}(...) takes a matrix of numbers, but {} holds {value}",
                self.name(),
                matrix.name()
            );
        }
        let data_type = match self.kind {
            Kind::Gene => {
                Self::position(matrix, args.scalar_arguments.get(1).copied().flatten())?;
                value
            }
            Kind::NGenes => DataType::Int64,
            Kind::TotalCounts => DataType::Float64,
        };
        let nullable = matrix.is_nullable();
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(rows), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return internal_err!("{} was called without a matrix", self.name());
        };
        let rows = rows.to_array(args.number_rows)?;
        let array = match self.kind {
            Kind::NGenes => lists::n_genes(&rows)?,
            Kind::TotalCounts => lists::total_counts(&rows)?,
            Kind::Gene => {
                let gene = match args.args.get(1) {
                    Some(ColumnarValue::Scalar(gene)) => Some(gene),
                    _ => None,
                };
                match Self::position(field, gene)? {
                    Some(position) => lists::gene(&rows, position)?,
                    None => {
                        return internal_err!(
                            "gene({}): the var axis is not known here",
                            field.name()
                        );
                    }
                }
            }
        };
        Ok(ColumnarValue::Array(array))
    }

    /// Calls on a column move to the scan, also from under aggregates, sorts and joins, so that
    /// the matrix never becomes a list.
    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        match args {
            [ExpressionPlacement::Column, rest @ ..]
                if rest.iter().all(|a| *a == ExpressionPlacement::Literal) =>
            {
                ExpressionPlacement::MoveTowardsLeafNodes
            }
            _ => ExpressionPlacement::KeepInPlace,
        }
    }
}

/// The type of one value of a matrix column.
fn value_type(data_type: &DataType) -> Option<DataType> {
    match (MatrixKind::of(data_type)?, data_type) {
        (MatrixKind::Sparse, DataType::List(item)) => match item.data_type() {
            DataType::Struct(fields) => fields.get(1).map(|data| data.data_type().clone()),
            _ => None,
        },
        (MatrixKind::Dense, DataType::FixedSizeList(item, _)) => Some(item.data_type().clone()),
        _ => None,
    }
}
