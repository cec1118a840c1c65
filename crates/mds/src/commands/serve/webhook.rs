//! Whom the daemon tells the pressure, as the settings say.

use std::time::Duration;

use anyhow::Context as _;
use mds_core::settings::FeedbackSettings;
use mds_server::{Webhook, WebhookChoice, WebhookOptions};

/// The webhook that is to be told; none where nothing is to be sent.
pub(super) fn of(settings: &FeedbackSettings) -> anyhow::Result<Option<Webhook>> {
    let is_wanted = settings.enable_feedback && settings.enable_http_broadcast;
    let Some(url) = settings.http_endpoint.clone().filter(|_| is_wanted) else {
        return Ok(None);
    };
    let choice = match settings.http_coordinator {
        None => WebhookChoice::Each,
        // What is no kind is the one other word that the setting takes.
        Some(word) => word
            .parse()
            .map_or(WebhookChoice::Worst, WebhookChoice::One),
    };
    let options = WebhookOptions {
        url,
        timeout: Duration::from_secs_f64(settings.http_timeout),
        max_retries: settings.http_max_retries,
        backoff: Duration::from_secs_f64(settings.http_backoff),
        choice,
    };
    let webhook = Webhook::new(&options).context("the pressure cannot be told to a webhook")?;
    Ok(Some(webhook))
}
