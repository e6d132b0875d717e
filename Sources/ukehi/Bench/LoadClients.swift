// What drives a run sees of any kind of clients.

/// The clients of one node. All methods any thread.
protocol LoadClients: AnyObject, Sendable {
    /// The node they use.
    var target: RequestTarget { get }
    /// Uses a fresh view of the topology.
    func use(_ owned: OwnedKeys)
    /// Whether a reply showed that the view of the topology is old.
    var needsTopology: Bool { get }
    /// Makes every client want its first operation; to preload: each key of the node is put once,
    /// then the clients rest.
    func start(preloading: Bool)
    /// From now on clients want operations at this rate, all of this node's together.
    func pace(_ operationsPerSecond: Double)
    /// Lets refused clients try again, and those that wait for an operation to come look for one.
    func tick()
    /// From now on no client wants another operation.
    func stop()
    /// Clients that wait for a reply or for a retry.
    var waiting: Int { get }
    /// Clients that have an operation and nowhere to send it, and how long the first of them has
    /// waited, in nanoseconds.
    var starved: (clients: Int, longest: UInt64) { get }
    /// Runs `body` on the findings.
    func withTally<R>(_ body: (inout ClientTally) -> R) -> R
    /// Hands the rest of ack log and history to their files.
    func closeLogs()
}
