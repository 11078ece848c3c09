//! `/hystrix.stream`, read as a dashboard reads it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use outrigger_testkit::{PATIENCE, Process, World, eventually, service_yaml};
use serde_json::Value;

use super::{CART, Mesh, OUTRIGGER};

/// One stream.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(mesh: &Mesh, query: &str) -> Self {
        Self::at(mesh.admin(), query)
    }

    fn at(admin: SocketAddr, query: &str) -> Self {
        let stream = TcpStream::connect(admin).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let head = format!("GET /hystrix.stream{query} HTTP/1.1\r\nhost: {admin}\r\n\r\n");
        (&stream).write_all(head.as_bytes()).expect("it reads");
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).expect("a line in time");
        assert!(count > 0, "the stream goes on");
        line.trim_end().to_owned()
    }

    /// The next event of a circuit.
    fn next(&mut self, name: &str) -> Value {
        loop {
            if let Some(event) = self.line().strip_prefix("data: ") {
                let event: Value = serde_json::from_str(event).expect("JSON");
                if event["name"] == name {
                    return event;
                }
            }
        }
    }
}

/// The members that `SerialHystrixDashboardData` writes.
const MEMBERS: &str = "type name group currentTime isCircuitBreakerOpen errorPercentage errorCount requestCount \
    rollingCountBadRequests rollingCountCollapsedRequests rollingCountEmit rollingCountExceptionsThrown \
    rollingCountFailure rollingCountFallbackEmit rollingCountFallbackFailure rollingCountFallbackMissing \
    rollingCountFallbackRejection rollingCountFallbackSuccess rollingCountResponsesFromCache \
    rollingCountSemaphoreRejected rollingCountShortCircuited rollingCountSuccess rollingCountThreadPoolRejected \
    rollingCountTimeout currentConcurrentExecutionCount rollingMaxConcurrentExecutionCount latencyExecute_mean \
    latencyExecute latencyTotal_mean latencyTotal propertyValue_circuitBreakerRequestVolumeThreshold \
    propertyValue_circuitBreakerSleepWindowInMilliseconds propertyValue_circuitBreakerErrorThresholdPercentage \
    propertyValue_circuitBreakerForceOpen propertyValue_circuitBreakerForceClosed propertyValue_circuitBreakerEnabled \
    propertyValue_executionIsolationStrategy propertyValue_executionIsolationThreadTimeoutInMilliseconds \
    propertyValue_executionTimeoutInMilliseconds propertyValue_executionIsolationThreadInterruptOnTimeout \
    propertyValue_executionIsolationThreadPoolKeyOverride propertyValue_executionIsolationSemaphoreMaxConcurrentRequests \
    propertyValue_fallbackIsolationSemaphoreMaxConcurrentRequests \
    propertyValue_metricsRollingStatisticalWindowInMilliseconds propertyValue_requestCacheEnabled \
    propertyValue_requestLogEnabled reportingHosts threadPool";

#[test]
fn each_circuit_is_a_command_every_half_second() {
    let mesh = Mesh::start();
    let mut stream = Stream::open(&mesh, "?delay=100");
    assert_eq!(stream.line(), "HTTP/1.1 200 OK");
    let type_line = eventually("the type", || Some(stream.line()).filter(|line| line.starts_with("content-type")));
    assert_eq!(type_line, "content-type: text/event-stream;charset=UTF-8");
    let first = stream.next(CART);
    let mut expected: Vec<&str> = MEMBERS.split_whitespace().collect();
    expected.sort_unstable();
    let found: Vec<&String> = first.as_object().expect("an object").keys().collect();
    assert_eq!(found, expected);
    assert_eq!((&first["type"], &first["group"]), (&"HystrixCommand".into(), &"cart.shop".into()));
    assert_eq!(first["propertyValue_circuitBreakerRequestVolumeThreshold"], 5);
    assert_eq!(first["propertyValue_circuitBreakerSleepWindowInMilliseconds"], 60_000);
    assert_eq!(first["latencyExecute"].as_object().map(|at| at.len()), Some(9));
    let second = stream.next(CART);
    let apart = second["currentTime"].as_u64().zip(first["currentTime"].as_u64()).map(|(b, a)| b - a);
    assert!(apart.is_some_and(|ms| ms >= 90), "{apart:?}");
    assert_eq!(first["isCircuitBreakerOpen"], false);
    mesh.open_cart();
    mesh.get("cart.shop", "");
    let open = eventually("the circuit to be told open", || {
        Some(stream.next(CART)).filter(|event| event["rollingCountShortCircuited"].as_u64() > Some(0))
    });
    assert_eq!(open["isCircuitBreakerOpen"], true);
    assert!(open["errorPercentage"].as_u64() >= Some(50) && open["errorCount"].as_u64() >= Some(5), "{open:#}");
    assert!(open["rollingCountFailure"].as_u64() >= Some(5), "{open:#}");
}

#[test]
fn streams_are_few_and_end_with_their_readers() {
    let mesh = Mesh::start();
    let first_line = |stream: &mut Stream| stream.line();
    let mut streams: Vec<Stream> = (0..5).map(|_| Stream::open(&mesh, "?delay=1")).collect();
    streams.iter_mut().for_each(|stream| assert_eq!(first_line(stream), "HTTP/1.1 200 OK"));
    assert_eq!(first_line(&mut Stream::open(&mesh, "")), "HTTP/1.1 503 Service Unavailable");
    drop(streams);
    eventually("a place to be free again", || {
        (first_line(&mut Stream::open(&mesh, "")) == "HTTP/1.1 200 OK").then_some(())
    });
    assert_eq!(mesh.ask("GET", "/hystrix.stream?proxy=shop/nobody", "").status, 404);
}

#[test]
fn without_circuits_there_is_a_ping() {
    let world = World::new();
    world.write("a.yaml", &service_yaml("default", "a", 80, &[]));
    let path = world.path().display().to_string();
    let flags = ["-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
    let process = Process::start(OUTRIGGER, ["run", &path].iter().chain(&flags));
    let mut stream = Stream::at(process.address("admin"), "?delay=100");
    for round in 0..2 {
        eventually("a ping", || (stream.line() == "ping:").then_some(()));
        assert!(round > 0 || stream.line().is_empty(), "an event ends with an empty line");
    }
}
