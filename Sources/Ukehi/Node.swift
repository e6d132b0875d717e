// A member of a cluster in this process: what embedders hold.

public import Logging
internal import Synchronization
public import UkehiBase
public import UkehiNode
internal import UkehiPOSIX
public import UkehiState

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#endif

/// A node of a cluster, embedded in this process.
///
/// The node serves every key: what another node leads is forwarded there. Its operations are those
/// of ``KeyValueStore``.
///
/// ```swift
/// let node = try await Node.start(directory: "./data")
/// ```
///
/// One directory belongs to one node in one process; a second is refused. A process may hold many
/// nodes.
public final class Node: KeyValueStore, Sendable {
    /// Makes the state machine of a region that owns a range of keys.
    public typealias StateMachineFactory = @Sendable (RegionID, KeyRange) -> any StateMachine

    private let assembly: Assembly
    private let engine: RequestEngine
    let failures: FailureSignal

    /// The engine, for tools of this package that measure it.
    package var core: NodeCore { assembly.core }

    private init(assembly: Assembly, failures: FailureSignal) {
        self.assembly = assembly
        self.failures = failures
        let clock = SystemClock()
        engine = RequestEngine(
            local: assembly.core, endpoints: assembly.configuration.cluster.peers,
            links: ClientLinks(clock: clock, label: assembly.configuration.cluster.nodeID),
            clock: clock)
    }

    /// Starts a node that is a cluster of its own, with everything in `directory`.
    ///
    /// Returns when it serves. The directory is made if it is not there (its parent must be); one
    /// that a node has used before goes on where that node was.
    ///
    /// - Throws: ``NodeError``: the directory is in use, of another node, damaged or on a full disk.
    public static func start(directory: String, logger: Logger? = nil) async throws -> Node {
        try await start(configuration: Configuration(directory: directory), logger: logger)
    }

    /// Starts a node.
    ///
    /// Returns when it serves; the first time in a cluster of several, when it listens: the cluster
    /// begins once all its nodes are up, and requests wait for that within their timeouts.
    ///
    /// - Parameters:
    ///   - logger: Where the node reports; nil: nowhere.
    ///   - stateMachine: Makes each region's state machine; nil: the ordered key-value map.
    ///   - onFailure: Called once when the node can no longer keep its promises (a disk sync failed,
    ///     say). It serves nothing more then, and must not be started again in this process, whose
    ///     view of the disk cannot be trusted. Nil: the process ends with the error's exit code.
    /// - Throws: ``ConfigurationError`` with every fault, or ``NodeError``.
    public static func start(
        configuration: Configuration, logger: Logger? = nil,
        stateMachine: StateMachineFactory? = nil,
        onFailure: (@Sendable (NodeError) -> Void)? = nil
    ) async throws -> Node {
        let failures = FailureSignal(
            onFailure ?? { error in
                // Said even where nobody listens to the logger.
                var text = "ukehi: \(error.message)\n"
                text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
                exit(error.code.exitCode)
            })
        let assembly = try await Assembly(
            configuration: configuration, logger: logger ?? silentLogger,
            stateMachine: stateMachine, onFailure: { failures.raise($0) })
        // From here on, faults found while opening are thrown, not raised.
        try await assembly.start()
        failures.arm()
        return Node(assembly: assembly, failures: failures)
    }

    /// Stops the node cleanly: its leaders hand over to other nodes, requests that wait are answered, applied state is made durable, the
    /// directory is free. Nothing acknowledged depends on it.
    public func stop() async {
        failures.disarm()
        await assembly.core.drain()
        await engine.stop()
        await assembly.stop()
    }

    // MARK: Questions

    /// Asks the leader of a region about its members, or to change them; see ``Client/members(of:_:timeout:)``.
    public func members(
        of region: RegionID, _ ask: MemberRequest = .report, timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> MemberReport {
        try await engine.members(of: region, ask, timeout: timeout)
    }

    /// Divides a region; see ``Client/split(at:timeout:)``.
    public func split(
        at keys: [Bytes], timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> [RegionInfo] {
        try await engine.split(at: keys, timeout: timeout)
    }

    /// The snapshots that a node of the cluster, this one or another, sends and gets just now; see
    /// ``Client/snapshotTransfers(on:timeout:)``.
    public func snapshotTransfers(
        on node: NodeID, timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> [SnapshotTransferInfo] {
        try await engine.snapshotTransfers(on: node, timeout: timeout)
    }

    /// ``Client/regionLoads(on:_:timeout:)``.
    public func regionLoads(
        on node: NodeID, _ question: LoadQuestion = LoadQuestion(top: 10),
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> [RegionLoadInfo] {
        try await engine.regionLoads(on: node, question, timeout: timeout)
    }

    /// Where this node is reached, `host:port`.
    public var address: String { assembly.address }

    /// Whether this node leads the system region, as far as it knows. A hint: the truth of an
    /// election is known only to who waits for a majority.
    public var isLeader: Bool { assembly.core.isLeader }

    /// Whether this node leads the region of `key`, as far as it knows. A hint, as ``isLeader``.
    public func leads(_ key: Bytes) -> Bool { assembly.core.leads(key) }

    /// The regions and their leaders, ascending by range, as far as this node knows; none before the
    /// cluster exists.
    public var regions: [RegionInfo] { assembly.core.topology?.regions ?? [] }

    /// The cluster as this node knows it; nil before it exists.
    public var topology: Topology? { assembly.core.topology }

    /// Returns when the node is part of a cluster and its regions are open.
    ///
    /// - Throws: ``NodeError`` when it failed or was stopped before that.
    public func ready() async throws { try await assembly.open() }

    // MARK: Operations

    public func run(
        _ command: Command, timeout: Duration
    ) async throws(RequestError) -> CommandResult {
        try await engine.run(command, timeout: timeout)
    }

    /// As ``KeyValueStore/openSession()``. A cluster with a state machine of its own has no sessions: it
    /// refuses their commands as unsupported.
    public func openSession() -> Session { Session(engine) }

    public func get(
        _ key: Bytes, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> VersionedValue? {
        try await engine.get(key, mode: mode, timeout: timeout)
    }

    public func scan(
        from lower: Bytes, to upper: Bytes?, limit: Int, mode: ReadMode, timeout: Duration
    ) async throws(RequestError) -> ScanPage {
        try await engine.scan(from: lower, to: upper, limit: limit, mode: mode, timeout: timeout)
    }

    /// Proposes a command to the state machine of the region that holds `key` and gives its answer.
    ///
    /// On return the command is durable on a majority and applied here or on the leader. Commands
    /// with one key are applied in one order. Only for nodes started with a state machine.
    ///
    /// - Throws: As ``KeyValueStore/run(_:timeout:)``.
    public func propose(
        _ body: Bytes, key: Bytes = Bytes(), timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> Bytes {
        let result = try await engine.run(.user(key: key, body: body), timeout: timeout)
        guard case .response(let answer) = result else { throw refusal(of: result) }
        return answer
    }

    /// Asks the state machine of the region that holds `key`; linearizable unless asked for less.
    public func query(
        _ body: Bytes, key: Bytes = Bytes(), mode: ReadMode = .linearizable,
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> Bytes {
        try await engine.query(body, key: key, mode: mode, timeout: timeout)
    }
}

/// A logger that says nothing.
let silentLogger = Logger(label: "ukehi") { _ in SwiftLogNoOpLogHandler() }

/// Passes a node's one failure on, once the node is in its embedder's hands.
final class FailureSignal: Sendable {
    private struct State {
        var isArmed = false
        var failure: NodeError?
        var waiters: [AsyncStream<NodeError>.Continuation] = []
    }
    private let state = Mutex(State())
    private let handler: @Sendable (NodeError) -> Void

    init(_ handler: @escaping @Sendable (NodeError) -> Void) { self.handler = handler }

    /// The node has failed.
    func raise(_ error: NodeError) {
        let (isArmed, waiters) = state.withLock { state in
            state.failure = error
            return (state.isArmed, state.waiters)
        }
        guard isArmed else { return }
        for waiter in waiters { waiter.yield(error) }
        handler(error)
    }

    /// From now on failures are passed on; one that came before is, too.
    func arm() {
        let failure = state.withLock { state in
            state.isArmed = true
            return state.failure
        }
        if let failure { handler(failure) }
    }

    /// A node that is being stopped fails for nobody.
    func disarm() { state.withLock { $0.isArmed = false } }

    /// The failure, when it comes.
    func stream() -> AsyncStream<NodeError> {
        let (stream, continuation) = AsyncStream<NodeError>.makeStream()
        let failure = state.withLock { state in
            state.waiters.append(continuation)
            return state.failure
        }
        if let failure { continuation.yield(failure) }
        return stream
    }
}
