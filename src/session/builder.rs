//! The session and how it is set up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use datafusion::dataframe::DataFrame;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};

use crate::error::{Error, Result};
use crate::plan::Notices;
use crate::session::{guard, hint, register, stream};
use crate::table::DEFAULT_BATCH_BYTES;

/// How a session works. Defaults: all cores, no memory limit, the system's temporary directory,
/// 1 MiB of matrix rows per batch.
#[derive(Debug, Clone)]
pub struct SessionBuilder {
    target_partitions: Option<usize>,
    memory_limit: Option<usize>,
    tmpdir: Option<PathBuf>,
    batch_bytes: usize,
    only_opened: bool,
}

impl SessionBuilder {
    /// How many partitions a scan is cut into.
    #[must_use]
    pub fn target_partitions(mut self, partitions: usize) -> Self {
        self.target_partitions = Some(partitions.max(1));
        self
    }

    /// Bytes that sorts, joins and aggregates may hold before they spill.
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Where spilled data goes.
    #[must_use]
    pub fn tmpdir(mut self, path: impl Into<PathBuf>) -> Self {
        self.tmpdir = Some(path.into());
        self
    }

    /// Bytes of matrix rows per batch.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes.max(1);
        self
    }

    /// Whether SQL sees nothing but what [`Session::open`] opened: `read_anndata`, `shuffle` and
    /// `merge`, which take paths, are not there. For whoever runs statements of others; see
    /// [`Session::read_only`].
    #[must_use]
    pub fn only_opened(mut self) -> Self {
        self.only_opened = true;
        self
    }

    /// The session.
    ///
    /// # Errors
    /// [`Error::DataFusion`] if the temporary directory cannot be used.
    pub fn build(self) -> Result<Session> {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_extension(Arc::new(Notices::default()));
        if let Some(partitions) = self.target_partitions {
            config = config.with_target_partitions(partitions);
        }
        let options = config.options_mut();
        // `X` and `S.Score` are what AnnData calls them.
        options.sql_parser.enable_ident_normalization = false;
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(bytes) = self.memory_limit {
            runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(bytes)));
        }
        if let Some(path) = self.tmpdir {
            crate::element::set_tmpdir(&path);
            runtime = runtime.with_temp_file_path(path);
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime.build_arc()?)
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        register(&context)?;
        if self.only_opened {
            for function in ["read_anndata", "shuffle", "merge"] {
                context.deregister_udtf(function);
            }
        }
        Ok(Session {
            context,
            batch_bytes: self.batch_bytes,
            names: Mutex::default(),
        })
    }
}

/// Objects as schemas, and SQL over them.
pub struct Session {
    pub(super) context: SessionContext,
    pub(super) batch_bytes: usize,
    /// Schemas of open objects, in the order they were opened.
    pub(super) names: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session with other than default settings.
    pub fn builder() -> SessionBuilder {
        SessionBuilder {
            target_partitions: None,
            memory_limit: None,
            tmpdir: None,
            batch_bytes: DEFAULT_BATCH_BYTES,
            only_opened: false,
        }
    }

    /// A session with default settings.
    ///
    /// # Errors
    /// As [`SessionBuilder::build`].
    pub fn try_new() -> Result<Self> {
        Self::builder().build()
    }

    /// DataFusion's context, for everything that is not said here.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Takes what writes could not keep since the last call; one sentence each.
    pub fn take_notices(&self) -> Vec<String> {
        let config = self.context.copied_config();
        let notices = config.get_extension::<Notices>();
        notices.map_or_else(Vec::new, |notices| notices.take())
    }

    /// Plans a statement (and runs it, where it is one like `CREATE TABLE`).
    ///
    /// # Errors
    /// [`Error::DataFusion`] for a statement that does not plan, with the nearest name where one
    /// is unknown; an error of ours where a function or a table gave it.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        let state = self.context.state();
        self.execute(state.create_logical_plan(sql)).await
    }

    /// Plans a query as [`Session::sql`] does, and refuses every statement that is none: nothing is
    /// written, made or set.
    ///
    /// # Errors
    /// As [`Session::sql`].
    pub async fn read_only(&self, sql: &str) -> Result<DataFrame> {
        let state = self.context.state();
        let queries = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        self.execute(async {
            let plan = state.create_logical_plan(sql).await?;
            queries.verify_plan(&plan)?;
            Ok(plan)
        })
        .await
    }

    async fn execute(
        &self,
        plan: impl Future<Output = datafusion::common::Result<LogicalPlan>>,
    ) -> Result<DataFrame> {
        let planned = async {
            let plan = plan.await?;
            guard::check(&plan)?;
            self.context.execute_logical_plan(plan).await
        };
        planned
            .await
            .map_err(|error| hint::explain(Error::from(error), &self.context))
    }

    /// The statements of a script, in their order. Plans nothing.
    ///
    /// # Errors
    /// [`Error::DataFusion`] where the text does not parse.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        Ok(DFParser::parse_sql(sql)?.into())
    }

    /// Plans a statement as [`Session::sql`] does, from what was parsed and not from its text:
    /// `COPY` and `CREATE EXTERNAL TABLE` are not printed as they are read.
    ///
    /// # Errors
    /// As [`Session::sql`].
    pub async fn run_statement(&self, statement: Statement) -> Result<DataFrame> {
        let state = self.context.state();
        self.execute(state.statement_to_plan(statement)).await
    }

    /// Runs a query. Rows of a plain selection come in the order of the object, batches are sized
    /// so that matrix rows stay within a few MB wherever they are gathered.
    ///
    /// # Errors
    /// [`Error::DataFusion`] for a query that does not plan; what reading meets comes through the
    /// stream.
    pub async fn stream(&self, frame: DataFrame) -> Result<SendableRecordBatchStream> {
        stream::run(frame).await
    }

    /// Plans and runs a statement and gathers its batches. What a `COPY` could not keep is told by
    /// [`take_notices`](Self::take_notices), and logged.
    ///
    /// # Errors
    /// As [`Session::sql`], and what running meets.
    pub async fn collect(&self, sql: &str) -> Result<Vec<arrow::array::RecordBatch>> {
        let stream = self.stream(self.sql(sql).await?).await?;
        futures::TryStreamExt::try_collect(stream)
            .await
            .map_err(Error::from)
    }
}
