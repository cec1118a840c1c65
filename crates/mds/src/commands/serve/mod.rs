//! `mds serve`: the daemon. Rows come over HTTP, wait in a durable queue, and go into the store.

mod lanes;
mod report;
mod webhook;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use anyhow::Context as _;
use mds_coordinator::{FeedbackBus, Metrics};
use mds_core::settings::{QueueChoice, SettingFlag};
use mds_server::{App, AppOptions, Limits, ListenOptions, Tickets};
use tokio::net::TcpListener;

use crate::commands::ingest::Signals;
use crate::context::Context;
use crate::durable;
use crate::exit::{Exit, Usage};
use crate::pipeline;

/// Where the durable queues are if nobody says so.
const QUEUE: &str = "mds-queue";
/// Where is listened if nobody says so.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000);

const EXAMPLES: &str = "\
Examples:
  mds serve
  mds serve --store postgres://mds@db/market --queue disk:/var/lib/mds/queue
  curl -s --data-binary @bars.ndjson 'http://127.0.0.1:8000/v1/bars'

Rows are acknowledged when they are synced to the disk of the queue, and written into the store
after that. SIGTERM: what was accepted is settled, or stays in the queue for the next start.

Exit code 143 after SIGTERM, 130 after SIGINT; 1: it cannot start, or has failed; 2: wrong usage.";

/// Arguments of `mds serve`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Listen here [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Listen on an address that other machines reach, although everybody may write then
    #[arg(long)]
    allow_open: bool,
    /// Where rows wait: disk:DIR, or memory [default: disk:mds-queue]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Print what became of all rows as one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        let queue = self.queue.as_deref();
        let queue = queue.map(|value| SettingFlag {
            flag: "--queue",
            value,
        });
        queue.into_iter().collect()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let context = Context {
        settings: context.settings.clone(),
        usual_queue: QueueChoice::Disk(Path::new(QUEUE).to_path_buf()),
        ..*context
    };
    let runtime = pipeline::runtime()?;
    let ended = runtime.block_on(Box::pin(serve(args, &context)));
    // A name that is being looked up for the webhook is not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let address = args.listen.or_else(|| context.settings.listen());
    let address = address.unwrap_or_else(|| ADDRESS.into());
    check_open(address, args.allow_open)?;
    durable::check_dir(context)?;
    let feedback = context.settings.feedback();
    let webhook = webhook::of(&feedback)?;
    let signals = Signals::listen();
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another port by --listen"))?;
    let store = pipeline::open_store(context, std::time::Duration::ZERO).await?;
    let tickets = Tickets::default();
    let lanes = lanes::open(context, &store, &tickets).await?;
    let options = AppOptions {
        metrics: Metrics::global().clone(),
        // Nobody publishes on one that the coordinators do not know.
        bus: if feedback.enable_feedback {
            mds_coordinator::feedback_bus().clone()
        } else {
            FeedbackBus::new()
        },
        tenant: context.settings.tenant_id(),
        low_watermark: low_watermark(context),
        tickets,
        limits: Limits::default(),
    };
    let app = App::new(lanes, store.clone(), options);
    let told = webhook
        .as_ref()
        .map(|to| format!("; pressure is told to {to}"));
    context.note(format_args!(
        "serving http://{}; {}; store {}{}",
        listener.local_addr()?,
        match context.queue() {
            QueueChoice::Disk(dir) => format!("queue disk:{}", dir.display()),
            _ => "queue in memory: rows that wait are lost with the process".to_owned(),
        },
        context.store_url()?,
        told.unwrap_or_default()
    ));
    if let Some(webhook) = webhook {
        app.tell(webhook);
    }
    let stop = {
        let (app, signals) = (app.clone(), signals.clone());
        async move {
            let stop = signals.stop().await;
            app.drain();
            stop
        }
    };
    let (asked, stopping) = tokio::sync::oneshot::channel();
    let until = async {
        // Who asks is needed after the last request has ended.
        drop(asked.send(stop.await));
    };
    mds_server::serve(listener, app.router(), ListenOptions::default(), until).await;
    let stop = stopping.await.context("the daemon has ended by itself")?;
    context.note(
        "stopping: what was accepted is settled, or stays in the queue; a second SIGINT ends at once",
    );
    let ended = lanes::stop(app.lanes(), stop.grace()).await;
    pipeline::close_store(&store, ended.timed_out).await;
    report::tell(&ended, args.json)?;
    Ok(if ended.is_balanced() {
        stop.exit()
    } else {
        Exit::Failure
    })
}

/// The share of a queue up to which there is no pressure.
#[expect(clippy::cast_precision_loss, reason = "a ratio of counts")]
fn low_watermark(context: &Context) -> f64 {
    let settings = context.settings.coordinator();
    settings.coordinator_low_watermark as f64 / settings.coordinator_capacity as f64
}

/// Nobody but this machine may write, unless somebody wants it so.
fn check_open(address: SocketAddr, is_allowed: bool) -> anyhow::Result<()> {
    if is_allowed || address.ip().is_loopback() {
        return Ok(());
    }
    let what = format!(
        "listening on {address} would let everybody who reaches it write; --allow-open means that"
    );
    Err(Usage::new(what).into())
}
