//! A scheduler and an executor of Ballista in this process, set up for plans of annfusion.

use std::sync::Arc;
use std::time::Duration;

use annfusion::cluster::{AnnDataLogicalCodec, AnnDataPhysicalCodec, WholeInputs, whole_inputs};
use annfusion::session::Session;
use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_core::config::BallistaConfig;
use ballista_core::execution_plans::execute_physical_plan;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::common::collect;
use datafusion::prelude::SessionContext;
use datafusion_proto::protobuf::PhysicalPlanNode;

/// A running cluster.
pub struct Cluster {
    url: String,
    state: SessionState,
    context: SessionContext,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A scheduler, and an executor that runs so many tasks at a time. Scans are cut into `partitions`.
    ///
    /// # Errors
    /// What starting them meets.
    pub async fn start(slots: usize, partitions: usize) -> Result<Self> {
        let session = Session::builder().target_partitions(partitions).build();
        let session = session.map_err(DataFusionError::from)?;
        let logical = Arc::new(BallistaLogicalExtensionCodec::default());
        let physical = Arc::new(BallistaPhysicalExtensionCodec::default());
        let config = session
            .context()
            .copied_config()
            .with_ballista_standalone_parallelism(slots)
            // It plans by rules of its own, and not by those of the session.
            .with_ballista_adaptive_query_planner(false)
            .with_ballista_logical_extension_codec(Arc::new(AnnDataLogicalCodec::wrap(logical)))
            .with_ballista_physical_extension_codec(Arc::new(AnnDataPhysicalCodec::wrap(physical)));
        let state = SessionStateBuilder::new_from_existing(session.context().state())
            .with_config(config)
            .with_physical_optimizer_rule(Arc::new(WholeInputs))
            .build();
        let failed =
            |error: ballista_core::error::BallistaError| DataFusionError::External(Box::new(error));
        let scheduler = ballista_scheduler::standalone::new_standalone_scheduler_from_state(&state);
        let port = scheduler.await.map_err(failed)?.port();
        let url = format!("http://localhost:{port}");
        let client = loop {
            match SchedulerGrpcClient::connect(url.clone()).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let executor = ballista_executor::new_standalone_executor_from_state(client, slots, &state);
        executor.await.map_err(failed)?;
        let context = SessionContext::remote_with_state(&url, state.clone()).await?;
        // A session for Ballista has its functions alone.
        for function in state.scalar_functions().values() {
            context.register_udf(function.as_ref().clone());
        }
        Ok(Self {
            url,
            state,
            context,
        })
    }

    /// Plans a statement there and runs it.
    ///
    /// # Errors
    /// What planning and running meet.
    pub async fn sql(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.context.sql(sql).await?.collect().await
    }

    /// Runs a plan that was made here.
    ///
    /// # Errors
    /// What running meets.
    pub async fn run(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
        let config = self.state.config().clone();
        let codec = config.ballista_physical_extension_codec();
        let defaults = BallistaConfig::default();
        let stream = execute_physical_plan::<PhysicalPlanNode>(
            self.url.clone(),
            &defaults,
            whole_inputs(plan)?,
            codec.as_ref(),
            self.state.session_id().to_owned(),
            config,
        );
        collect(stream.await?).await
    }
}
