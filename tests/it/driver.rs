//! Which driver the workers run on, and on which CPUs; what a system that refuses is answered.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::launch::{stderr, stdout};
use crate::support::tunnel::{accept, echo, open};
use crate::support::{Backend, Client, Driver, Launch, Proxy, ws};

/// A configuration with these lines in `[runtime]`.
fn config(backend: &Backend, runtime: &str) -> String {
    format!("[server.app]\nproxy_url = \"{}\"\n[runtime]\n{runtime}\n", backend.url())
}

fn start(backend: &Backend, runtime: &str) -> Proxy {
    Proxy::start(Driver::Epoll, &config(backend, runtime))
}

/// Returns the CPUs of each worker as the kernel lists them, in the order of the workers.
fn cpus_of_workers(proxy: &Proxy) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("the proxy's threads");
    let mut workers = Vec::new();
    for task in tasks {
        let task = task.expect("a thread").path();
        let text = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
        if let Some(number) = text("comm").trim().strip_prefix("worker-") {
            let status = text("status");
            let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let number: usize = number.parse().expect("a worker's number");
            workers.push((number, cpus.expect("a list of CPUs").trim().to_owned()));
        }
    }
    workers.sort();
    workers.into_iter().map(|(_, cpus)| cpus).collect()
}

fn own_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("this thread's CPUs");
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn warnings(proxy: &Proxy) -> Vec<String> {
    proxy.logs().into_iter().filter(|line| line.contains(" WARN ")).collect()
}

#[test]
fn epoll_by_choice_is_told_without_a_warning() {
    let backend = Backend::recording();
    let proxy = start(&backend, "driver = \"epoll\"\ncores = 2");
    assert_eq!(proxy.wait_for_logs("driver epoll", 2).len(), 2);
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
    assert_eq!(warnings(&proxy), Vec::<String>::new());
}

#[test]
fn io_uring_is_taken_by_default_where_it_is_allowed() {
    if Driver::IoUring.refused() {
        println!("skipped: io_uring is refused here");
        return;
    }
    let backend = Backend::recording();
    let proxy = start(&backend, "cores = 1");
    assert!(proxy.wait_for_log("Worker 0").contains("driver io_uring"));
    assert_eq!(warnings(&proxy), Vec::<String>::new());
}

#[test]
fn where_io_uring_is_refused_one_warning_names_the_remedy_and_epoll_serves() {
    let backend = Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            if let Some(key) = request.field("Sec-WebSocket-Key") {
                conn.send(ws::switching_protocols(key, &[]));
                conn.expect("ping");
                conn.send("pong");
            } else {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let launch = Launch::new().without_io_uring();
    let proxy = launch.config(Driver::Epoll, &config(&backend, "cores = 2")).start();
    assert_eq!(proxy.wait_for_logs("driver epoll", 2).len(), 2);
    let warnings = warnings(&proxy);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for remedy in ["io_uring_setup", "seccomp", "kernel.io_uring_disabled", "driver"] {
        assert!(warnings[0].contains(remedy), "{remedy}: {}", warnings[0]);
    }
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
    let mut tunnel = Client::connect(proxy.addr());
    tunnel.send(ws::ws_request("/ws", &[]));
    assert_eq!(tunnel.read_response().status, 101);
    tunnel.send("ping");
    tunnel.expect("pong");
}

#[test]
fn without_memory_for_the_tunnels_ring_the_pump_carries_them_and_a_warning_says_so() {
    if Driver::IoUring.refused() {
        println!("skipped: io_uring is refused here");
        return;
    }
    let backend = Backend::scripted(|conn, _| {
        accept(conn);
        echo(conn);
    });
    let launch = Launch::new().without_memory_for_rings();
    let keys = "cores = 1\ndriver = \"io_uring\"";
    let proxy = launch.config(Driver::IoUring, &config(&backend, keys)).start();
    let mut tunnel = open(&proxy);
    tunnel.send("ping");
    tunnel.expect("ping");
    let warnings = warnings(&proxy);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("Tunnels run without a ring of their own"), "{warnings:?}");
    assert!(warnings[0].contains("Cannot allocate memory"), "{warnings:?}");
}

#[test]
fn io_uring_by_choice_where_it_is_refused_ends_with_71_and_the_remedy() {
    let backend = Backend::recording();
    let launch = Launch::new().without_io_uring();
    let output =
        launch.config(Driver::IoUring, &config(&backend, "driver = \"io_uring\"")).output();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(71), "{told}{}", stdout(&output));
    for remedy in ["io_uring_setup", "seccomp", "kernel.io_uring_disabled", "epoll"] {
        assert!(told.contains(remedy), "{remedy}: {told}");
    }
    assert!(!stdout(&output).contains("listening on"), "{}", stdout(&output));
}

#[test]
fn epoll_by_choice_does_not_ask_for_a_ring() {
    let backend = Backend::recording();
    let launch = Launch::new().without_io_uring();
    let proxy = launch.config(Driver::Epoll, &config(&backend, "driver = \"epoll\"")).start();
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
    assert_eq!(warnings(&proxy), Vec::<String>::new());
}

#[test]
fn a_list_of_cores_pins_a_worker_to_each() {
    let backend = Backend::recording();
    let last = own_cpus().pop().expect("a CPU");
    let proxy = start(&backend, &format!("cores = [{last}]"));
    assert!(proxy.wait_for_log("Worker 0").contains(&format!("on CPU {last}")));
    assert_eq!(cpus_of_workers(&proxy), [last.to_string()]);
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
}

#[test]
fn a_number_of_cores_is_a_number_of_workers() {
    let backend = Backend::recording();
    let proxy = start(&backend, "cores = 3");
    assert_eq!(proxy.wait_for_logs(": Worker ", 3).len(), 3);
    // With more workers than CPUs they take turns.
    let own = own_cpus();
    let expected: Vec<_> = own.iter().cycle().take(3).map(usize::to_string).collect();
    assert_eq!(cpus_of_workers(&proxy), expected);
}

#[test]
fn without_pinning_a_worker_runs_where_it_may() {
    let backend = Backend::recording();
    let proxy = start(&backend, "cores = 2\npin = false");
    let own = fs::read_to_string("/proc/thread-self/status").expect("this thread's status");
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let own = own.expect("a list of CPUs").trim();
    assert_eq!(cpus_of_workers(&proxy), [own, own]);
    assert_eq!(proxy.wait_for_logs("not pinned", 2).len(), 2);
}

#[test]
fn all_cores_are_those_of_the_affinity_mask() {
    let backend = Backend::recording();
    let last = own_cpus().pop().expect("a CPU");
    // On a thread of its own, whose mask the proxy inherits and nobody else.
    let started = std::thread::scope(|scope| {
        let start = scope.spawn(|| {
            let mut one = CpuSet::new();
            one.set(last);
            sched_setaffinity(None, &one).expect("a smaller mask");
            start(&backend, "cores = \"all\"")
        });
        start.join().expect("the proxy starts")
    });
    assert_eq!(cpus_of_workers(&started), [last.to_string()]);
}

#[test]
fn a_core_that_is_not_there_is_refused_and_named() {
    let backend = Backend::recording();
    let launch = Launch::new().config(Driver::Epoll, &config(&backend, "cores = [0, 999]"));
    let output = launch.output();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("runtime.cores") && told.contains("999"), "{told}");
}
