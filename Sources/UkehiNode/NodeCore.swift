// One node: directory, identity, log, state, lanes and transport put together and kept together.
//
//   start    lock, identity, log recovery ──> member: open regions
//                                        └──> fresh: bootstrap with the configured peers, then open
//   running  requests and messages go to lanes; durable and applied positions come back to them
//   failed   a failed sync or store ends the node: nothing later is acknowledged (RULES 1)

package import Logging
import Synchronization
package import UkehiBase
package import UkehiEnvironment
import UkehiRaft
package import UkehiState
package import UkehiWAL

/// What the world offers a node.
package struct NodeEnvironment: Sendable {
    package var fileSystem: any FileSystem
    package var clock: any NodeClock
    package var random: any RandomSource
    /// Whether the log writes, and snapshots are compressed, on threads of their own; a simulator drives
    /// them by hand.
    package var usesThreads: Bool
    /// Makes a worker of this name.
    package var makeWorker: @Sendable (String) -> any Worker
    /// Makes one that gives way to the others where processors are busy.
    package var makeBackgroundWorker: @Sendable (String) -> any Worker
    /// Reads the log side by side as it is opened.
    package var parallel: any ParallelRunner
    /// Looks on, in simulations.
    package var observer: (any NodeObserver)?
    /// Off but in simulations.
    package var rarePaths: RarePaths

    package init(
        fileSystem: any FileSystem, clock: any NodeClock, random: any RandomSource,
        usesThreads: Bool = true, makeWorker: @escaping @Sendable (String) -> any Worker,
        makeBackgroundWorker: (@Sendable (String) -> any Worker)? = nil,
        parallel: any ParallelRunner = SerialRunner(),
        observer: (any NodeObserver)? = nil, rarePaths: RarePaths = .off
    ) {
        self.fileSystem = fileSystem
        self.clock = clock
        self.random = random
        self.usesThreads = usesThreads
        self.makeWorker = makeWorker
        self.makeBackgroundWorker = makeBackgroundWorker ?? makeWorker
        self.parallel = parallel
        self.observer = observer
        self.rarePaths = rarePaths
    }
}

/// The multi-Raft runtime of one process and directory.
package final class NodeCore: @unchecked Sendable {
    // Safety: `state` is behind its mutex; everything else is set in `init` or `start()`, before
    // other threads are given this object, and never changed.
    package let options: NodeOptions
    package let directory: String
    package let environment: NodeEnvironment
    /// Opened after lock and identity are checked: another node's state is never touched.
    package let applier: Applier
    package let transport: Transport
    package let logger: Logger
    package private(set) var lanes: [Lane] = []
    package let log: WriteAheadLog
    let recovered: [RecoveredRegion]
    /// Those of them that left a tombstone.
    let gone: Set<RegionID>
    let executors: [any LaneExecutor]
    private let lock: any FileLock
    let readWorker: any Worker
    private let applyWorkers: [any Worker]
    let bootWorker: any Worker
    private let maintenanceWorker: any Worker
    private let makingWorker: any Worker
    /// Nil in simulations: who makes a snapshot waits for it.
    private let compressingWorker: (any Worker)?
    private let takingWorker: any Worker
    let snapshotFiles: SnapshotFiles
    /// Nil where the state survives the process by itself.
    let keeper: SnapshotKeeper?
    private let onFailure: @Sendable (NodeError) -> Void
    let splitHistory = SplitHistory(capacity: Limits.maxSplitRecords)

    struct State {
        var identity: Identity
        var address: String
        var bootstrap: Bootstrap
        var router = Router([])
        /// User regions of this node.
        var table = RegionTable()
        /// The same, ascending by range.
        var descriptors: [RegionDescriptor] { table.ascending }
        /// The system region, if this node has a peer of it.
        var system: RegionDescriptor?
        /// Regions that this node has no peer of, as it last knew them.
        var foreign: [RegionID: RegionDescriptor] = [:]
        /// Ranges of regions that are gone from here, while their keys are being cleared away.
        var clearing: [RegionID: KeyRange] = [:]
        /// Regions that were born in an earlier life of the process and have no keys before what they came
        /// out of has replayed that.
        var waiting: [RegionID: WaitingRegion] = [:]
        /// Who waits for ids asked of other nodes, by the number of the request; bounded.
        var idRequests: [UInt64: @Sendable (UInt64?) -> Void] = [:]
        var lastIDRequest: UInt64 = 0
        var ids = IDReserve()
        var leaders: [RegionID: NodeID] = [:]
        var loads = NodeLoads(lanes: 0)
        /// Ranges that regions of this node have given away by divisions which a crash may undo.
        var given: [RegionID: [KeyRange]] = [:]
        var isStarted = false
        var isStopping = false
        var tending = RegistryTending()
        var keeping = MapKeeping()
        /// Configured peers that refuse this node, with their reasons.
        var refusals: [String: String] = [:]
        var failure: NodeError?
        /// Goes on with the bootstrap when the regions' births are durable.
        var joining: ClusterRecord?
        var isOpen = false
        var openWaiters: [@Sendable (Result<Void, NodeError>) -> Void] = []
    }
    let state: Mutex<State>

    /// Takes the directory and recovers its log; touches the network only at ``start()``.
    ///
    /// - Parameter onFailure: Called once, on any thread, when the node cannot go on; the process
    ///   should end with the error's exit code.
    /// - Throws: ``NodeError``: the directory is in use, of another node, or damaged.
    package init(
        options: NodeOptions, directory: String, environment: NodeEnvironment,
        walOptions: WALOptions, makeApplier: () throws(NodeError) -> Applier, transport: Transport,
        executors: [any LaneExecutor], logger: Logger,
        onFailure: @escaping @Sendable (NodeError) -> Void
    ) throws(NodeError) {
        invariant(executors.count == options.laneCount, "one executor per lane")
        self.options = options
        self.directory = directory
        self.environment = environment
        self.transport = transport
        self.executors = executors
        self.logger = logger
        self.onFailure = onFailure
        let fileSystem = environment.fileSystem
        lock = try NodeCore.lock(fileSystem, directory)
        do {
            let identity = try NodeCore.identity(
                fileSystem, directory: directory, name: options.name, random: environment.random)
            (log, recovered) = try NodeCore.openLog(
                environment, directory: directory, options: walOptions)
            gone = Set(recovered.filter { $0.tombstone != nil }.map(\.region))
            applier = try makeApplier()
            let cluster = ClusterID(
                high: environment.random.next(), low: environment.random.next())
            let hello = Hello(
                name: options.name, address: options.address, incarnation: identity.incarnation,
                cluster: nil, node: nil)
            state = Mutex(
                State(
                    identity: identity, address: options.address,
                    bootstrap: Bootstrap(
                        local: hello, peers: options.peers, ranges: options.initialRanges,
                        newCluster: cluster, record: identity.record),
                    loads: NodeLoads(lanes: options.laneCount)))
        } catch {
            lock.release()
            throw error
        }
        readWorker = environment.makeWorker("ukehi-read")
        bootWorker = environment.makeWorker("ukehi-boot")
        maintenanceWorker = environment.makeWorker("ukehi-maintain")
        makingWorker = environment.makeBackgroundWorker("ukehi-snapshot")
        compressingWorker =
            environment.usesThreads
            ? environment.makeBackgroundWorker("ukehi-compress") : nil
        takingWorker = environment.makeBackgroundWorker("ukehi-install")
        snapshotFiles = SnapshotFiles(fileSystem, directory: directory + "/snapshots")
        keeper =
            applier.survivesRestart
            ? nil
            : SnapshotKeeper(
                files: snapshotFiles, applier: applier, worker: makingWorker,
                compressingWorker: compressingWorker, random: environment.random, logger: logger)
        let snapshotWork = SnapshotWork(
            files: snapshotFiles, makingWorker: makingWorker,
            compressingWorker: compressingWorker, takingWorker: takingWorker,
            outgoing: SnapshotSlots(Limits.maxSnapshotsAtOnce),
            incoming: SnapshotSlots(Limits.maxSnapshotsAtOnce), random: environment.random,
            keeper: keeper)
        applyWorkers = (0..<options.laneCount).map { environment.makeWorker("ukehi-apply-\($0)") }
        lanes = (0..<options.laneCount).map { index in
            Lane(
                index: index, options: options, executor: executors[index],
                clock: environment.clock, log: log, applier: applier, transport: transport,
                applyWorker: applyWorkers[index], readWorker: readWorker,
                maintenanceWorker: maintenanceWorker, snapshotWork: snapshotWork, host: self,
                observer: environment.observer, rare: environment.rarePaths, logger: logger)
        }
    }

    private static func lock(
        _ fileSystem: any FileSystem, _ directory: String
    ) throws(NodeError) -> any FileLock {
        do {
            try fileSystem.createDirectory(directory)
            return try fileSystem.lock(directory + "/lock")
        } catch {
            guard error.kind == .locked else { throw NodeError(error, directory: directory) }
            throw NodeError(
                code: .identity,
                message: "The data directory \(directory) is in use by another process. "
                    + "Nothing was touched. Stop that process, or give this node its own data_dir.")
        }
    }

    private static func identity(
        _ fileSystem: any FileSystem, directory: String, name: String, random: any RandomSource
    ) throws(NodeError) -> Identity {
        if let identity = try Identity.load(fileSystem, directory: directory) {
            guard identity.name == name else {
                throw NodeError(
                    code: .identity,
                    message: "The data directory \(directory) belongs to node \(identity.name), "
                        + "this node is called \(name). Nothing was touched. Correct node_id or "
                        + "data_dir.")
            }
            return identity
        }
        // Without an identity the directory must be new: a log without one is somebody's data.
        if let names = try? fileSystem.list(directory + "/wal"), !names.isEmpty {
            throw NodeError(
                code: .identity,
                message: "The data directory \(directory) holds a log but no identity file. "
                    + "Nothing was touched. Restore the identity file from a backup, or move the "
                    + "directory away and join as a new node.")
        }
        let identity = Identity.fresh(name: name, incarnation: Incarnation(random.next() | 1))
        try Identity.syncName(of: directory, fileSystem)
        try identity.store(fileSystem, directory: directory)
        return identity
    }

    private static func openLog(
        _ environment: NodeEnvironment, directory: String, options: WALOptions
    ) throws(NodeError) -> (WriteAheadLog, [RecoveredRegion]) {
        var options = options
        options.rarePaths = environment.rarePaths
        do {
            return try WriteAheadLog.open(
                fileSystem: environment.fileSystem, directory: directory + "/wal",
                options: options, random: environment.random, clock: environment.clock,
                parallel: environment.parallel)
        } catch {
            throw NodeError(error)
        }
    }

    // MARK: Start and stop

    /// Opens what the directory holds, starts the network and, if the directory is new, the
    /// bootstrap. Returns at once; ``whenOpen(_:)`` tells when requests can be served.
    package func start() throws(NodeError) {
        log.start(
            threads: environment.usesThreads,
            durable: { [self] lane, ticket in
                if lane < lanes.count { lanes[lane].post(durable: ticket) } else { birthsDurable() }
            },
            failed: { [self] error in failed(NodeError(error)) },
            damaged: { [self] damage in found(damage) })
        let identity = state.withLock { state in
            state.isStarted = true
            state.tending.dialed = Set(options.peers)
            return state.identity
        }
        do {
            try transport.start(self, peers: options.peers)
        } catch {
            throw error as? NodeError
                ?? NodeError(
                    code: .unavailable,
                    message: "The node cannot listen on \(options.address): \(error). Free the "
                        + "port or configure another one.")
        }
        if let bound = transport.boundAddress {
            state.withLock { state in
                state.address = bound
                state.bootstrap.reached(at: bound)
            }
        }
        switch (identity.stage, identity.record) {
        case (.member, let record?):
            bootWorker.run { [self] in open(record, isNew: false) }
        case (.joining, let record?):
            bootWorker.run { [self] in birth(record) }
        default:
            perform(state.withLock { $0.bootstrap.start() })
        }
    }

    /// The background check has found something in the log.
    private func found(_ damage: LogDamage) {
        // As at a start: a node that nobody can help refuses rather than forget.
        guard log.repairsDamage else { return failed(NodeError(damage.error)) }
        logger.error("the log is damaged", metadata: ["reason": "\(damage.error)"])
        // What the disk does not give at all is not written over: it may give it the next time.
        guard damage.error.code == .corrupted else { return }
        for entries in damage.entries {
            lanes[lane(of: entries.region)].post(.damaged(entries))
        }
    }

    /// Calls back when regions are open, or the node failed; at once if that is so already.
    package func whenOpen(_ body: @escaping @Sendable (Result<Void, NodeError>) -> Void) {
        let now: Result<Void, NodeError>? = state.withLock { state in
            if let failure = state.failure { return .failure(failure) }
            if state.isStopping { return .failure(NodeCore.stopped) }
            if state.isOpen { return .success(()) }
            state.openWaiters.append(body)
            return nil
        }
        if let now { body(now) }
    }

    /// Stops serving, then everything else; what was acknowledged stays.
    package func stop() async {
        let isFirst = state.withLock { state in
            defer { state.isStopping = true }
            return !state.isStopping
        }
        guard isFirst else { return }
        for lane in lanes { lane.post(.stop) }
        await transport.stop()
        for executor in executors { executor.stop() }
        for worker in applyWorkers { worker.stop() }
        readWorker.stop()
        bootWorker.stop()
        maintenanceWorker.stop()
        makingWorker.stop()
        compressingWorker?.stop()
        takingWorker.stop()
        log.stop()
        applier.close()
        lock.release()
        let waiters = state.withLock { state in
            defer { state.openWaiters = [] }
            return state.openWaiters
        }
        for waiter in waiters { waiter(.failure(NodeCore.stopped)) }
    }

    private static let stopped = NodeError(code: .unavailable, message: "The node was stopped.")

    // MARK: Bootstrap

    func perform(_ actions: [BootstrapAction]) {
        for action in actions {
            switch action {
            case .join(let record):
                bootWorker.run { [self] in join(record) }
            case .offer(let bytes, let address):
                // Behind the join: an offer is made only of a record that is durable here.
                bootWorker.run { [self] in
                    guard state.withLock({ $0.identity.record != nil }) else { return }
                    transport.sendControl(bytes, to: address)
                }
            case .welcome(let node, let address):
                bootWorker.run { [self] in
                    guard let bytes = welcome(node) else { return }
                    transport.sendControl(bytes, to: address)
                }
            }
        }
    }

    /// The record becomes this directory's: durable before its regions are born.
    private func join(_ record: ClusterRecord) {
        do {
            var identity = state.withLock { $0.identity }
            guard let node = record.node(named: options.name)?.node else { return }
            identity.stage = .joining
            identity.node = node
            identity.record = record
            try identity.store(environment.fileSystem, directory: directory)
            state.withLock { $0.identity = identity }
            let isNew = record.regions.contains { $0.peer(on: node) != nil }
            logger.info(
                isNew ? "joined a new cluster" : "joined a running cluster",
                metadata: ["cluster": "\(record.cluster)", "node": "\(node)"])
            birth(record)
        } catch {
            failed(error)
        }
    }

    /// Births the regions in the log; no group exists before that is durable. Repeats itself after
    /// a crash: nothing was said by peers that were not born.
    private func birth(_ record: ClusterRecord) {
        guard let node = state.withLock({ $0.identity.node }) else { return }
        state.withLock { $0.joining = record }
        // Who joins a running cluster holds nothing before its leaders say so.
        guard record.regions.contains(where: { $0.peer(on: node) != nil }) else {
            return birthsDurable()
        }
        var births = LogBatch()
        for descriptor in record.regions where descriptor.peer(on: node) != nil {
            births.birth(
                region: descriptor.region, payload: descriptor.encoded(), hardState: .empty)
        }
        do {
            _ = try log.submit(&births, lane: options.laneCount)
        } catch {
            failed(NodeError(error))
        }
    }

    private func birthsDurable() {
        guard let record = state.withLock({ $0.joining }) else { return }
        bootWorker.run { [self] in
            do throws(NodeError) {
                var identity = state.withLock { $0.identity }
                identity.stage = .member
                try identity.store(environment.fileSystem, directory: directory)
                state.withLock { $0.identity = identity }
                open(record, isNew: true)
            } catch {
                failed(error)
            }
        }
    }
}

// MARK: - Lanes report

extension NodeCore: LaneHost {
    package func pinned(_ regions: [RegionID]) {
        for lane in lanes { lane.post(.pinned(regions)) }
    }

    package func failed(_ error: NodeError) {
        let waiters: [@Sendable (Result<Void, NodeError>) -> Void]? = state.withLock { state in
            guard state.failure == nil, !state.isStopping else { return nil }
            state.failure = error
            defer { state.openWaiters = [] }
            return state.openWaiters
        }
        guard let waiters else { return }
        logger.critical("the node stops", metadata: ["reason": "\(error)"])
        for lane in lanes { lane.post(.stop) }
        for waiter in waiters { waiter(.failure(error)) }
        onFailure(error)
    }
}

// MARK: - The transport reports

extension NodeCore: TransportEvents {
    package func localHello() -> Hello {
        state.withLock { state in
            Hello(
                name: options.name, address: state.address,
                incarnation: state.identity.incarnation, cluster: state.identity.record?.cluster,
                node: state.identity.node,
                generation: state.identity.record?.registry.generation ?? 0)
        }
    }

    package func judge(_ remote: Hello, dialed: String?) -> HandshakeVerdict {
        state.withLock { state in
            let verdict = state.bootstrap.judge(remote)
            if case .accept = verdict { state.note(remote) }
            return verdict
        }
    }

    package func connected(_ remote: Hello, dialed: String) {
        perform(
            state.withLock { state in
                state.refusals[dialed] = nil
                state.tending.reached[dialed] = remote.node.map { ($0, remote.address) }
                state.tending.lacking[dialed] = remote.cluster == nil ? remote : nil
                return state.bootstrap.connected(remote, dialed: dialed)
            })
    }

    /// One peer may be the one that is wrong; when all of them refuse this node, it is this one.
    package func refused(_ reason: String, dialed: String) {
        let isRefusedByAll = state.withLock { state in
            state.refusals[dialed] = reason
            // A node that began alone has no peers to be refused by: those that joined it are the cluster's.
            return !options.peers.isEmpty
                && options.peers.allSatisfy { state.refusals[$0] != nil }
        }
        guard isRefusedByAll else { return }
        failed(
            NodeError(
                code: .identity,
                message: "All configured peers refuse this node; \(dialed): \(reason) Nothing was "
                    + "changed in \(directory)."))
    }

    package func received(control: Bytes, from remote: Hello) {
        do {
            perform(
                try state.withLock { state throws(DecodeError) in
                    try state.bootstrap.offered(control)
                })
        } catch {
            logger.warning(
                "an offer to join a cluster was refused",
                metadata: ["from": "\(remote.name)", "reason": "\(error)"])
        }
    }

    package func received(_ messages: [RegionMessage], from node: NodeID) {
        if lanes.count == 1 { return lanes[0].post(messages, from: node) }
        for lane in lanes {
            let own = messages.filter { self.lane(of: $0.region) == lane.index }
            if !own.isEmpty { lane.post(own, from: node) }
        }
    }

    package func unreachable(_ node: NodeID) {
        for lane in lanes { lane.post(.unreachable(node)) }
    }

    /// Takes many requests at once; leaves the array empty with its room.
    package func submit(batch: inout [ClientRequest]) {
        let isPlain = batch.allSatisfy { request in
            switch request.operation {
            case .topology, .members, .transfers, .loads, .recovery: return false
            default: break
            }
            return request.expected?.region != .system
        }
        if lanes.count == 1 && isPlain { return lanes[0].submit(batch: &batch) }
        for position in batch.indices { submit(batch[position]) }
        batch.removeAll(keepingCapacity: true)
    }

    package func submit(_ request: ClientRequest) {
        guard request.expected?.region != .system else {
            let reason = "The system region takes no requests."
            request.sink.reply(.failed(.rejected(.invalid(reason))), tag: request.tag)
            return request.sink.flush()
        }
        if case .topology = request.operation {
            if let topology {
                request.sink.reply(.topology(topology), tag: request.tag)
            } else {
                let reason = "The node is not part of a cluster yet."
                request.sink.reply(.failed(.rejected(.unavailable(reason))), tag: request.tag)
            }
            return request.sink.flush()
        }
        if case .transfers = request.operation {
            let gathering = Gathering(of: lanes.count, request) {
                .transfers(SnapshotTransferInfo.inOrder($0))
            }
            for lane in lanes { lane.post(.tellTransfers(gathering)) }
            return
        }
        if case .loads(var question) = request.operation {
            question.top = min(question.top, Limits.maxShownLoads)
            let asked = question
            let gathering = Gathering<RegionLoadInfo>(of: lanes.count, request) {
                .loads(asked.answer($0))
            }
            for lane in lanes { lane.post(.tellLoads(asked, gathering)) }
            return
        }
        if case .recovery(let body) = request.operation { return recover(body, request) }
        if case .members(let region, _) = request.operation {
            return lanes[lane(of: region)].submit(request)
        }
        if lanes.count == 1 { return lanes[0].submit(request) }
        let target: Int? =
            if let expected = request.expected {
                lane(of: expected.region)
            } else {
                state.withLock { $0.router }.route(for: request.key)?.lane
            }
        guard let target else {
            request.sink.reply(.failed(.rejected(elsewhere(request.key))), tag: request.tag)
            return request.sink.flush()
        }
        lanes[target].submit(request)
    }
}
