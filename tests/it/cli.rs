//! The command line as a person or a script meets it: what is printed where, and the exit codes.
//!
//! 0 done or drained, 1 a fault in the configuration, 2 usage, 71 the system refuses.

use std::net::TcpListener;
use std::process::Output;

use rustix::process::Signal;

use crate::support::launch::{stderr, stdout};
use crate::support::{Backend, Client, Proxy};

fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
}

#[test]
fn no_argument_prints_the_usage_on_stderr_and_names_the_demo() {
    let output = Proxy::command(&[]);
    assert_exit(&output, 2);
    assert_eq!(stdout(&output), "");
    for word in ["Usage", "phantom-frame demo", "--backend", "config.toml"] {
        assert!(stderr(&output).contains(word), "{word}: {}", stderr(&output));
    }
}

#[test]
fn help_goes_to_stdout_and_names_every_flag() {
    for flag in ["--help", "-h"] {
        let output = Proxy::command(&[flag]);
        assert_exit(&output, 0);
        assert_eq!(stderr(&output), "");
        for word in ["CONFIG", "--config", "--check", "-t", "--backend", "--port", "demo"] {
            assert!(stdout(&output).contains(word), "{word}: {}", stdout(&output));
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = Proxy::command(&["--version"]);
    assert_exit(&output, 0);
    assert_eq!(stdout(&output), concat!("phantom-frame ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn arguments_that_make_no_sense_are_refused_with_two_and_named() {
    for (arguments, named) in [
        (&["--prot", "80"][..], "--prot"),
        (&["config.toml", "other.toml"], "other.toml"),
        (&["--backend"], "--backend"),
        (&["--backend", "http://localhost", "--port", "65536"], "65536"),
        (&["--backend", "http://localhost", "config.toml"], "--backend"),
        (&["--port", "80", "config.toml"], "--port"),
        (&["-t"], "CONFIG"),
        (&["-t", "--backend", "http://localhost"], "--backend"),
        (&["demo", "--prot", "80"], "--prot"),
    ] {
        let output = Proxy::command(arguments);
        assert_exit(&output, 2);
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_backend_that_is_no_url_is_refused_with_one() {
    for url in ["localhost:8080", "ftp://localhost", "http://", "http://localhost:99999", ""] {
        let output = Proxy::command(&["--backend", url, "--port", "0"]);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains("--backend"), "{url:?}: {}", stderr(&output));
    }
}

#[test]
fn a_port_in_use_ends_with_71_and_the_address() {
    let holder = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = holder.local_addr().expect("a bound socket has an address").port().to_string();
    for arguments in
        [&["--backend", "http://127.0.0.1:1", "--port", &port][..], &["demo", "--port", &port]]
    {
        let output = Proxy::command(arguments);
        assert_exit(&output, 71);
        let address = format!(":{port}: Address already in use");
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
        assert!(!stdout(&output).contains("listening on"), "{}", stdout(&output));
    }
}

#[test]
fn a_second_instance_on_the_same_port_is_refused() {
    let backend = Backend::recording();
    let first = Proxy::start_with_arguments(&["--backend", &backend.url(), "--port", "0"]);
    let port = first.addr().port().to_string();
    let second = Proxy::command(&["--backend", &backend.url(), "--port", &port]);
    assert_exit(&second, 71);
    let address = format!("0.0.0.0:{port}");
    assert!(stderr(&second).contains(&address), "{}", stderr(&second));
    // Every new connection still arrives at the first: none is lost to a socket of the second.
    for _ in 0..20 {
        assert_eq!(Client::connect(first.addr()).get("/").text(), "ok");
    }
}

#[test]
fn a_restart_on_the_same_port_need_not_wait_for_old_connections() {
    let backend = Backend::recording();
    let mut first = Proxy::start_with_arguments(&["--backend", &backend.url(), "--port", "0"]);
    let port = first.addr().port().to_string();
    let mut client = Client::connect(first.addr());
    assert_eq!(client.get("/").text(), "ok");
    first.signal(Signal::TERM);
    // The proxy closes first, so its end of the connection stays in TIME_WAIT.
    client.expect_eof();
    assert_eq!(first.wait_exit(), 0);
    let again = Proxy::start_with_arguments(&["--backend", &backend.url(), "--port", &port]);
    assert_eq!(Client::connect(again.addr()).get("/").text(), "ok");
}
