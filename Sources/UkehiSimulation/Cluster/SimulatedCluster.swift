// A whole cluster in one process and one thread: the shipped node, log, state and consensus code
// over simulated clocks, disks and networks, from one seed.

public import UkehiBase
import UkehiEnvironment
import UkehiNode
public import UkehiState

/// A cluster whose every chance comes from a seed: two clusters made and used alike do the same
/// things in the same order, byte for byte.
///
/// Use it to test what you build on the engine, under faults that real machines show once a year:
///
/// ```swift
/// let cluster = SimulatedCluster(seed: 42, nodes: 3) { _, _ in Counters() }
/// let answer = try cluster.propose(key: "visits", "add")
/// cluster.cutPower(node: 0)
/// cluster.run(milliseconds: 5_000)
/// ```
///
/// Time passes only inside ``run(milliseconds:)`` and the calls that wait for an answer. At each
/// step the cluster is held to Raft's promises; the first breach ends it and is thrown as
/// ``SimulationFailure``. Not thread-safe; one thread at a time.
public final class SimulatedCluster {
    let world: World
    let options: SwarmOptions
    let network: SimulatedNetwork
    let nodes: [SimulatedNode]
    let observer: ClusterObserver
    let log: EventLog
    let rarePaths: RarePaths
    private let sink: AnswerSink

    /// A cluster of key-value regions, or of the state machines that `makeStateMachine` makes, one
    /// per region and node. Starts all nodes; ``run(milliseconds:)`` lets them find each other.
    ///
    /// - Parameters:
    ///   - nodes: How many; 3, 5 or 7 tolerate 1, 2 or 3 failures.
    ///   - regions: Ranges that the keys are divided into.
    public convenience init(
        seed: UInt64, nodes: Int = 3, regions: Int = 4,
        makeStateMachine: (@Sendable (RegionID, KeyRange) -> any StateMachine)? = nil
    ) {
        var options = SwarmOptions(seed: seed)
        options.nodes = nodes
        options.regions = regions
        options.clockDriftPerMillion = Array(repeating: 0, count: nodes)
        self.init(
            seed: seed, options: options,
            state: makeStateMachine.map { .machine($0) } ?? .keyValue)
    }

    init(seed: UInt64, options: SwarmOptions, state: SimulatedState) {
        var random = SeededRandom(seed: seed)
        func fork() -> SeededRandom { SeededRandom(seed: random.next()) }
        let world = World()
        self.world = world
        self.options = options
        log = EventLog(world)
        let rarePaths =
            options.rarePercent == 0
            ? RarePaths.off
            : RarePaths(
                random: SeededRandomSource(seed: seed ^ 0x4255_4747),
                enabledPercent: options.rarePercent)
        self.rarePaths = rarePaths
        observer = ClusterObserver(world: world, nodes: options.nodes, log: log)
        observer.mayLeaveBehind = options.leavesBehind
        network = SimulatedNetwork(world: world, nodes: options.nodes, random: fork())
        network.behaviour.latency = options.networkLatency
        network.behaviour.reorders = options.reordersPackets
        network.behaviour.splitsBatches = options.splitsBatches
        nodes = (0..<options.nodes).map { [network, observer] number in
            SimulatedNode(
                number: number, world: world, network: network, observer: observer,
                options: options, state: state, rarePaths: rarePaths, random: fork())
        }
        sink = AnswerSink()
        network.onSend = { [observer] node, messages in
            observer.sent(node: node, messages)
        }
        for node in nodes {
            node.onFailure = { [weak node] _ in
                guard let node else { return }
                node.cutPower()
                world.schedule(after: 200_000_000) { node.start() }
            }
            node.onLost = { error in
                world.fail("node-\(node.number + 1) cannot start any more: \(error)")
            }
        }
        for node in nodes { node.start() }
    }

    deinit {
        // Nodes and what they run on hold each other until they end.
        for node in nodes {
            node.onEnded = { _ in }
            node.kill()
            node.onFailure = { _ in }
            node.onLost = { _ in }
        }
        network.onSend = { _, _ in }
        world.end()
    }

    // MARK: Time

    /// Simulated time since the beginning.
    public var milliseconds: UInt64 { world.now / 1_000_000 }

    /// Everything that happened, as one number: equal for equal runs, in every build.
    public var traceHash: UInt64 { world.trace.value }

    /// Lets this much simulated time pass.
    ///
    /// - Throws: ``SimulationFailure`` if a promise of the cluster was broken; it cannot go on.
    public func run(milliseconds: UInt64) throws(SimulationFailure) {
        world.run(until: world.now + milliseconds * 1_000_000)
        if let failure = world.failure { throw failure }
    }

    // MARK: Faults

    /// Ends a node's process as `kill -9` does; does nothing to one that is down.
    public func kill(node: Int) { nodes[node].kill() }

    /// Cuts a node's power: what was not durable may be gone, in any combination.
    public func cutPower(node: Int) { nodes[node].cutPower() }

    /// Starts a node that is down.
    public func start(node: Int) { nodes[node].start() }

    /// Cuts a node off from all others, both ways, or connects it again.
    public func setIsolated(_ isIsolated: Bool, node: Int) {
        for other in nodes.indices where other != node {
            network.setBlocked(isIsolated, from: node, to: other)
            network.setBlocked(isIsolated, from: other, to: node)
        }
    }

    // MARK: Asking

    /// What became of a request.
    public enum Answer: Hashable, Sendable {
        case reply(Bytes)
        case applied(CommandResult)
        case value(VersionedValue?)
        /// Nobody did anything: it may be asked again.
        case rejected
        /// It may have been done, or yet be done.
        case unknown
    }

    /// Proposes a command to the embedder's state machine through whoever leads the key's region,
    /// and runs until it is answered or five simulated seconds have passed.
    public func propose(key: Bytes, _ body: Bytes) throws -> Answer {
        try write(.user(key: key, body: body))
    }

    /// Carries out a key-value command, as ``propose(key:_:)``.
    public func write(_ command: Command) throws -> Answer {
        try ask(.write(record: try command.encoded()), key: command.key)
    }

    /// Reads a key, linearizably.
    public func get(_ key: Bytes) throws -> Answer {
        try ask(.get(.linearizable), key: key)
    }

    /// Asks the embedder's state machine, linearizably.
    public func query(key: Bytes, _ request: Bytes) throws -> Answer {
        try ask(.query(request, .linearizable), key: key)
    }

    /// The node that leads the key's region and knows it.
    public func leader(of key: Bytes) -> Int? {
        nodes.indices.first { nodes[$0].core?.leads(key) ?? false }
    }

    private func ask(_ operation: ClientOperation, key: Bytes) throws(SimulationFailure) -> Answer {
        let end = world.now + 5_000_000_000
        while world.now < end {
            guard let leader = leader(of: key), let core = nodes[leader].core else {
                try run(milliseconds: 20)
                continue
            }
            let tag = sink.next()
            let isWrite = if case .write = operation { true } else { false }
            core.submit(ClientRequest(operation: operation, key: key, sink: sink, tag: tag))
            while world.now < end, sink.replies[tag] == nil, nodes[leader].core === core {
                try run(milliseconds: 1)
            }
            switch sink.replies.removeValue(forKey: tag) {
            case .command(.response(let bytes)), .query(let bytes): return .reply(bytes)
            case .command(let result): return .applied(result)
            case .value(let value): return .value(value)
            case .failed(.rejected): try run(milliseconds: 20)
            case nil where !isWrite: continue
            default: return .unknown
            }
        }
        return .rejected
    }

    /// The digest of the key's region on each node that is up, by node.
    public func digests(of key: Bytes) throws(SimulationFailure) -> [Int: RegionDigest] {
        var digests: [Int: RegionDigest] = [:]
        for node in nodes.indices {
            guard let core = nodes[node].core else { continue }
            // One that has no peer of the region, or none yet, has no state of it.
            guard let region = core.region(of: key), nodes[node].lane?.holds(region) ?? false
            else { continue }
            let end = world.now + 1_000_000_000
            // A refusal is asked again: it says nothing about the state.
            while world.now < end, digests[node] == nil {
                let tag = sink.next()
                core.submit(ClientRequest(operation: .digest, key: key, sink: sink, tag: tag))
                while world.now < end, sink.replies[tag] == nil { try run(milliseconds: 1) }
                if case .digest(let digest)? = sink.replies.removeValue(forKey: tag) {
                    digests[node] = digest
                }
            }
        }
        return digests
    }
}

/// Collects answers by tag.
private final class AnswerSink: ReplySink, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    var replies: [UInt64: Reply] = [:]
    private var last: UInt64 = 0

    func next() -> UInt64 {
        last += 1
        return last
    }
    override func reply(_ reply: Reply, tag: UInt64) { replies[tag] = reply }
}
