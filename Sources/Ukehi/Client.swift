// A cluster's keys from outside its processes.

public import UkehiBase
public import UkehiNode
internal import UkehiPOSIX
public import UkehiState

/// A client of a running cluster, for any number of tasks at once.
///
/// Finds the leader of each key's region by itself, keeps one connection per node and repairs what
/// it knows from the answers. Its operations are those of ``KeyValueStore``.
///
/// ```swift
/// let client = try Client(endpoints: ["10.0.0.1:7878", "10.0.0.2:7878"])
/// ```
public final class Client: KeyValueStore, Sendable {
    let engine: RequestEngine

    /// Makes a client; connects when first used.
    ///
    /// - Parameter endpoints: Nodes to begin with, `host:port` each; the others are learnt from them.
    /// - Throws: ``RequestError`` when there is none, or one is no address.
    public init(endpoints: [String]) throws(RequestError) {
        guard !endpoints.isEmpty else { throw .rejected(.invalid("A client needs an endpoint.")) }
        for endpoint in endpoints {
            guard let address = EndpointText(endpoint), address.port > 0 else {
                throw .rejected(.invalid("\"\(endpoint)\" is no host:port."))
            }
        }
        let clock = SystemClock()
        engine = RequestEngine(
            local: nil, endpoints: endpoints, links: ClientLinks(clock: clock, label: "client"),
            clock: clock)
    }

    /// Closes the connections; operations that still wait are refused or of unknown outcome.
    public func stop() async { await engine.stop() }

    /// The cluster as the first endpoint that answers sees it.
    public func topology(timeout: Duration = defaultTimeout) async throws(RequestError) -> Topology
    {
        try await engine.refresh(until: engine.deadline(timeout))
    }

    /// Asks the leader of a region about its members, or to change them; see ``MemberRequest``.
    ///
    /// A change goes on after this returns. Ask again, with the same nodes, until the report says that it
    /// is done: a new leader does not know what the last one was asked for.
    public func members(
        of region: RegionID, _ ask: MemberRequest = .report, timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> MemberReport {
        try await engine.members(of: region, ask, timeout: timeout)
    }

    /// Divides the region that holds these keys, so that a new region begins at each of them.
    ///
    /// Returns once the new regions are there on this region's leader, ascending by range, the divided one last
    /// with its id: it keeps what lies above the last key. Clients find their way by themselves.
    ///
    /// - Parameter keys: Ascending, all of one region, none of them where it begins, and keys on both sides of
    ///   each: a region without keys would never be worth its cost.
    /// - Throws: ``RequestError/rejected(_:)``; nothing was changed. With `notSplit` the ``SplitRefusal`` says what
    ///   to change; those that pass in a moment were tried again until the time was over. `outcomeUnknown`: look
    ///   at the topology.
    public func split(
        at keys: [Bytes], timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> [RegionInfo] {
        try await engine.split(at: keys, timeout: timeout)
    }

    /// The snapshots that a node sends and gets just now, as it sees them.
    ///
    /// - Throws: ``RequestError``: `.invalid` if the cluster has no such node, `.timedOut` or
    ///   `.unavailable` if it does not answer.
    public func snapshotTransfers(
        on node: NodeID, timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> [SnapshotTransferInfo] {
        try await engine.snapshotTransfers(on: node, timeout: timeout)
    }

    /// How much is asked of the regions that a node leads, the hottest first: counted by it, over the last few
    /// seconds.
    ///
    /// - Throws: As ``snapshotTransfers(on:timeout:)``.
    public func regionLoads(
        on node: NodeID, _ question: LoadQuestion = LoadQuestion(top: 10),
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> [RegionLoadInfo] {
        try await engine.regionLoads(on: node, question, timeout: timeout)
    }

    /// The cluster as the node at `address` sees it.
    package func topology(
        at address: String, timeout: Duration
    ) async throws(RequestError) -> Topology {
        guard
            case .topology(let topology) = try await engine.ask(
                .topology, at: address, timeout: timeout)
        else { throw .rejected(.unavailable("the node answered something else")) }
        return topology
    }

    /// Asks the node at `address` how it stands; with an order, once it has done what it is ordered.
    package func survey(
        at address: String, ordering order: RecoveryOrder? = nil, timeout: Duration
    ) async throws(RequestError) -> RecoverySurvey {
        let body = order?.encoded() ?? Bytes()
        guard
            case .recovery(let bytes) = try await engine.ask(
                .recovery(body), at: address, timeout: timeout)
        else { throw .rejected(.unavailable("the node answered something else")) }
        do throws(DecodeError) {
            return try RecoverySurvey.decode(bytes)
        } catch {
            throw .rejected(.unavailable("what the node answered cannot be read: \(error)"))
        }
    }

    public func run(
        _ command: Command, timeout: Duration
    ) async throws(RequestError) -> CommandResult {
        try await engine.run(command, timeout: timeout)
    }

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

    /// Proposes a command to a cluster with its own state machine; see ``Node/propose(_:key:timeout:)``.
    public func propose(
        _ body: Bytes, key: Bytes = Bytes(), timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> Bytes {
        let result = try await engine.run(.user(key: key, body: body), timeout: timeout)
        guard case .response(let answer) = result else { throw refusal(of: result) }
        return answer
    }

    /// Asks a cluster with its own state machine; see ``Node/query(_:key:mode:timeout:)``.
    public func query(
        _ body: Bytes, key: Bytes = Bytes(), mode: ReadMode = .linearizable,
        timeout: Duration = defaultTimeout
    ) async throws(RequestError) -> Bytes {
        try await engine.query(body, key: key, mode: mode, timeout: timeout)
    }
}
