//! `consumer setup` and the user that Kibana has in Elasticsearch.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::world::World;

const ENDS: Duration = Duration::from_secs(30);

pub(crate) async fn a_cluster_without_native_users_is_set_up_all_the_same(
    world: &World,
) -> Result<()> {
    // Each test ends with a look at the queues.
    world.initmq().await?;
    let setup = world.setup_starting(&[("JOBLOGS_KIBANA_PASS", "canary-password".into())])?;
    let status = setup.end(ENDS).await?;
    let said = setup.output();
    ensure!(status.success(), "{status}: {said}");
    // The official image of Elasticsearch has them.
    let is_said = said.contains("kibana_system gets no password")
        || said.contains("the password of kibana_system is set");
    ensure!(is_said, "nothing of kibana_system: {said}");
    ensure!(!said.contains("canary-password"), "{said}");
    Ok(())
}
