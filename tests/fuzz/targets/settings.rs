//! Configurations: what is accepted can be used, and what is not is said without telling secrets.

use std::collections::HashSet;

use phantom_frame::config::{Config, Loaded, parse, route};

/// The value of each variable whose name begins with S. No message may repeat it.
const SECRET: &str = "5e9c-a17e,7";

/// The text of a configuration.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let env = |name: &str| name.starts_with('S').then(|| SECRET.to_owned());
    let lenient = parse(text, false, &env);
    let strict = parse(text, true, &env);
    if let Ok(strict) = &strict {
        let lenient = lenient.as_ref().expect("what is strictly right is right");
        assert_eq!(lenient.config, strict.config);
    }
    for loaded in [&lenient, &strict] {
        let faults = match loaded {
            Ok(Loaded { config, warnings, .. }) => {
                check(config);
                warnings
            }
            Err(faults) => {
                assert!(!faults.0.is_empty(), "an error without a fault");
                &faults.0
            }
        };
        let lines = text.lines().count() + 1;
        for fault in faults {
            assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{fault}");
            assert!(!fault.message.is_empty());
            assert!(text.contains(SECRET) || !fault.to_string().contains(SECRET), "{fault}");
        }
    }
    if let Ok(lenient) = &lenient {
        let commented = parse(&format!("{text}\n# the end\n"), false, &env);
        assert_eq!(commented.expect("a comment changes nothing").config, lenient.config);
    }
}

/// Checks what the rest of the program takes for granted.
fn check(config: &Config) {
    assert!(!config.routes.is_empty() && !config.binds.is_empty());
    assert_eq!(config.binds.iter().collect::<HashSet<_>>().len(), config.binds.len());
    let is_local = config.control_binds.iter().all(std::net::IpAddr::is_loopback);
    assert!(is_local || config.control_auth.is_some(), "an open control endpoint");
    if config.control_auth.is_some() {
        assert_eq!(format!("{:?}", config.control_auth), "Some(Secret(..))");
    }
    let limits = &config.limits;
    assert!((1 << 10..=1 << 20).contains(&limits.head_bytes_max));
    assert!((1..=512).contains(&limits.head_fields_max));
    assert!(limits.connections_max != Some(0) && limits.tunnels_max != Some(0));
    assert!(!limits.pool_idle_age.is_zero() && !config.timeouts.head.is_zero());
    check_routes(config);
}

fn check_routes(config: &Config) {
    let mounts: HashSet<_> = config.routes.iter().map(|route| route.mount.to_string()).collect();
    let names: HashSet<_> = config.routes.iter().map(|route| &route.name).collect();
    assert_eq!((mounts.len(), names.len()), (config.routes.len(), config.routes.len()));
    for (index, each) in config.routes.iter().enumerate() {
        let mount = each.mount.to_string();
        let path = if mount == "*" { "/" } else { &mount };
        let found = route::select(&config.routes, path.as_bytes());
        assert_eq!(found, Some((index, &b"/"[..])), "{mount}");
        let text = format!("[server.a]\nproxy_url = \"{}\"\n", each.backend);
        let again = parse(&text, true, &|_| None).expect("what is displayed can be read");
        assert_eq!(again.config.routes[0].backend, each.backend);
    }
}
