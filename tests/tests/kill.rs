//! A broker that is killed (SIGKILL) again and again in the middle of acknowledged load: nothing acknowledged is
//! missing, nothing is there twice, each producer's records are in order, offsets are dense.

use std::time::Duration;

use anyhow::{Result, ensure};
use penstock_tests::load::{Load, Plan, create_topic};
use penstock_tests::{BrokerSpec, nap};

const PARTITIONS: i32 = 4;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_over_twenty_kills() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec =
        BrokerSpec::new(directory.path(), &["--set", "seal.rows=50", "--set", "seal.interval.ms=200"])?;
    let mut broker = spec.start()?;
    create_topic(&spec, "load", PARTITIONS, &[])?;
    let plan = Plan {
        topic: "load".to_owned(),
        partitions: PARTITIONS,
        producers: 1,
        records_per_second: 20_000,
        value_bytes: 20,
        settings: vec![
            ("linger.ms", "2"),
            ("retry.backoff.ms", "20"),
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
        ],
    };
    let load = Load::start(&spec, plan);
    for round in 0..20 {
        // Until something new was acknowledged, so that each kill meets load; then a little longer, differently.
        load.wait_for(200, Duration::from_secs(60))?;
        nap(Duration::from_millis(round * 7 % 90));
        broker.kill()?;
        broker = spec.start()?;
    }
    let outcome = load.finish()?;
    ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}
