//! What the log says at the start, in the original's words.

use crate::config::Config;

/// Logs what the configuration comes to.
pub fn describe(config: &Config) {
    tracing::info!("HTTP port: {}", config.http_port);
    if let Some(port) = config.https_port {
        tracing::info!("HTTPS port: {port}");
    }
    if !config.control_binds.is_empty() {
        tracing::info!("Control port: {}", config.control_port);
    }
    tracing::info!("Server entries: {}", config.routes.len());
    for route in &config.routes {
        tracing::info!(
            "  server '{}': bind_to='{}', proxy_url='{}', mode={}",
            route.name,
            route.mount,
            route.backend,
            route.proxy_mode,
        );
    }
}
