// One node of a simulated cluster: a disk and a state store that outlive it, and the process that
// runs on them for a while.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState
import UkehiWAL

/// What a node's state machine is.
enum SimulatedState {
    case keyValue
    case machine(@Sendable (RegionID, KeyRange) -> any StateMachine)
}

final class SimulatedNode: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    enum Condition {
        case down
        case running
        /// Its disk cannot be read any more; it stays down.
        case lost(NodeError)
    }

    let number: Int
    let process: Process
    let clock: SimulatedClock
    private let world: World
    private let network: SimulatedNetwork
    private let observer: ClusterObserver
    private let options: SwarmOptions
    private let state: SimulatedState
    private let rarePaths: RarePaths
    private var random: SeededRandom

    private(set) var disk = SimulatedFileSystem()
    private var store: CrashModelStore
    /// It is gone for good: nobody starts it.
    private(set) var isDead = false
    /// It came back after it had been declared dead, or is to.
    private(set) var isRetired = false
    /// The cluster refused it, and its process ended.
    private(set) var isDismissed = false
    private(set) var condition = Condition.down
    private(set) var core: NodeCore?
    private var transport: SimulatedTransport?
    private var executors: [SimulatedExecutor] = []
    private var driver: LogDriver?
    var behaviour = DiskBehaviour()
    /// Multiplies what its threads take for everything.
    var slowness: UInt64 = 1
    /// Until then its store takes no writes, whichever process asks.
    var storeStalledUntil: UInt64 = 0
    /// The process ended by itself: it restarts after a while.
    var onFailure: (NodeError) -> Void = { _ in }
    /// Its process has ended, and this is what its disk holds now.
    var onEnded: (SimulatedNode) -> Void = { _ in }
    /// It has carried out a write of a session.
    var onCarriedOut: (RegionID, LogIndex, SessionWrite) -> Void = { _, _, _ in }
    /// Its disk cannot be read: it will not start again.
    var onLost: (NodeError) -> Void = { _ in }

    init(
        number: Int, world: World, network: SimulatedNetwork, observer: ClusterObserver,
        options: SwarmOptions, state: SimulatedState, rarePaths: RarePaths, random: SeededRandom
    ) {
        self.number = number
        self.world = world
        self.network = network
        self.observer = observer
        self.options = options
        self.state = state
        self.rarePaths = rarePaths
        self.random = random
        process = Process(name: "node-\(number + 1)")
        clock = SimulatedClock(world)
        clock.setDrift(perMillion: options.clockDriftPerMillion[number])
        store = Self.emptyStore(options, seed: self.random.next())
        behaviour.latency = options.diskLatency
        behaviour.lateOneIn = options.lateWritesOneIn
        prepareDisk()
        _ = SimulatedTransport(
            network: network, number: number, process: process, random: fork())
    }

    private static func emptyStore(_ options: SwarmOptions, seed: UInt64) -> CrashModelStore {
        CrashModelStore(
            seed: seed,
            options: .init(
                completesOneIn: 4, flushesUnaskedOneIn: options.storeFlushesOneIn,
                isInMemory: options.appliesInline))
    }

    private func prepareDisk() {
        disk.setAllocationSupported(options.allocates)
        disk.setTearBytes(options.tearBytes)
    }

    /// Damaged bodies that were written again, in all its lives.
    var mendedBodies: Int {
        mendedBefore + Int(clamping: core?.log.statistics.mendedBodies ?? 0)
    }
    private var mendedBefore = 0

    /// The one lane it has while it runs.
    var lane: Lane? { executors.first?.lane }
    var isRunning: Bool { if case .running = condition { true } else { false } }
    var isLost: Bool { if case .lost = condition { true } else { false } }

    private func fork() -> SeededRandom { SeededRandom(seed: random.next()) }

    // MARK: The process

    /// Starts the process on what its disk holds. A disk that cannot be read makes the node `lost`.
    func start() {
        guard case .down = condition, !isDead else { return }
        let transport = SimulatedTransport(
            network: network, number: number, process: process, random: fork())
        let executor = SimulatedExecutor(
            world: world, process: process, clock: clock, latency: options.laneLatency,
            slowness: { [weak self] in self?.slowness ?? 1 }, random: fork())
        do {
            try start(transport, executor)
            condition = .running
        } catch {
            transport.end()
            executor.stop()
            release()
            disk.processEnded()
            if [.ioFailed, .diskFull, .unavailable].contains(error.code) {
                // The disk failed while it was being read: as any other end of a process.
                disk = disk.crashed(using: &random)
                onFailure(error)
            } else {
                condition = .lost(error)
                onLost(error)
            }
        }
    }

    private func start(
        _ transport: SimulatedTransport, _ executor: SimulatedExecutor
    ) throws(NodeError) {
        var nodeOptions = NodeOptions(
            name: process.name, address: SimulatedTransport.address(of: number),
            peers: (0..<options.nodes).filter { $0 != number }
                .map { SimulatedTransport.address(of: $0) })
        nodeOptions.electionTimeoutMilliseconds = options.electionTimeoutMilliseconds
        nodeOptions.heartbeatIntervalMilliseconds = options.heartbeatIntervalMilliseconds
        nodeOptions.initialRanges = options.ranges
        nodeOptions.compactionInterval = options.compactionInterval
        nodeOptions.maxUnflushedLogBytes = options.maxUnflushedLogBytes
        nodeOptions.rebalanceThreshold = options.rebalanceThreshold
        nodeOptions.leastSharedLoad = 5
        nodeOptions.raft = options.raft
        nodeOptions.compactsPastLagging = options.leavesBehind
        nodeOptions.maxLogEntries = options.maxLogEntries
        nodeOptions.maxLogBytes = options.maxLogBytes
        nodeOptions.snapshotChunkBytes = options.snapshotChunkBytes
        nodeOptions.splitLoadPerSecond = options.splitLoadPerSecond
        nodeOptions.splitBytes = options.splitBytes
        var walOptions = WALOptions()
        walOptions.segmentBytes = options.segmentBytes
        walOptions.maxGroupsInFlight = options.groupsInFlight
        walOptions.maxGroupBytes = options.maxGroupBytes
        walOptions.zeroesAhead = options.zeroesAhead
        walOptions.compressionThresholdBytes = options.compressionThresholdBytes
        walOptions.damagePolicy = options.repairsDamage ? .repair : .refuse
        walOptions.scrubBytesPerSecond = options.scrubBytesPerSecond
        let workerSeed = random.next()
        let core = try NodeCore(
            options: nodeOptions, directory: "data",
            environment: NodeEnvironment(
                fileSystem: disk, clock: clock, random: SeededRandomSource(seed: random.next()),
                usesThreads: false,
                makeWorker: { [world, process, options, weak self] name in
                    var seed = workerSeed
                    for byte in name.utf8 { seed = seed &* 31 &+ UInt64(byte) }
                    let making = name == "ukehi-snapshot" ? options.makingLatency : nil
                    let isApplying = name.hasPrefix("ukehi-apply")
                    return SimulatedWorker(
                        world: world, process: process, latency: making ?? options.workerLatency,
                        slowness: { [weak self] in self?.slowness ?? 1 },
                        stalledUntil: { [weak self] in
                            isApplying ? self?.storeStalledUntil ?? 0 : 0
                        }, random: SeededRandom(seed: seed))
                }, observer: observer.node(number), rarePaths: rarePaths),
            walOptions: walOptions, makeApplier: { makeApplier() }, transport: transport,
            executors: [executor], logger: Logger(label: "node") { _ in SwiftLogNoOpLogHandler() },
            onFailure: { [weak self] error in self?.failed(error) })
        self.core = core
        self.transport = transport
        executors = [executor]
        let driver = LogDriver(
            world: world, process: process, log: core.log,
            idleNanoseconds: walOptions.idleClaimNanoseconds, random: fork(),
            behaviour: { [weak self] in self?.behaviour ?? DiskBehaviour() })
        self.driver = driver
        executor.afterPass = { [observer, number] lane in
            observer.passed(node: number, lane)
            driver.poke()
        }
        try core.start()
        driver.poke()
        pokeWhileBooting(driver)
    }

    private func makeApplier() -> Applier {
        switch state {
        case .keyValue:
            keyValueApplier()
        case .machine(let factory):
            MachineApplier(appliesInline: options.appliesInline, factory: factory)
        }
    }

    private func keyValueApplier() -> KeyValueApplier {
        let applier = KeyValueApplier(
            store: options.forgetsState ? MemoryStore() : store, rarePaths: rarePaths,
            sessionLimits: options.sessionLimits)
        applier.stalls = { [world, weak self] in world.now < self?.storeStalledUntil ?? 0 }
        applier.onCarriedOut = { [weak self] region, index, session, number in
            self?.onCarriedOut(region, index, SessionWrite(session: session, number: number))
        }
        return applier
    }

    /// Before there are lanes that pass, the boot worker gives the log its first records.
    private func pokeWhileBooting(_ driver: LogDriver) {
        world.schedule(after: 2_000_000, of: process) { [self] in
            driver.poke()
            if core?.topology == nil || executors.first?.lane == nil { pokeWhileBooting(driver) }
        }
    }

    /// The process found that it cannot go on, and ends.
    private func failed(_ error: NodeError) {
        let life = process.life
        // Not in the middle of what it was doing.
        world.schedule(after: 0) { [self] in
            guard process.life == life else { return }
            if error.code == .identity {
                guard isRetired else { return lose(error) }
                isDismissed = true
                return kill()
            }
            // It read what had rotted in a segment that it opened by its footer: nobody starts it again
            // before the disk is replaced.
            if error.code == .corrupted { return lose(error) }
            onFailure(error)
        }
    }

    private func lose(_ error: NodeError) {
        release()
        disk.processEnded()
        store.crash()
        condition = .lost(error)
        onLost(error)
        onEnded(self)
    }

    // MARK: Its end

    /// Kills the process: the disk keeps everything written, the store loses its memtable.
    func kill() {
        guard isRunning else { return }
        release()
        disk.processEnded()
        store.crash()
        condition = .down
        onEnded(self)
    }

    /// Cuts the power: the disk keeps any subset of what was not durable.
    func cutPower() {
        guard isRunning else { return }
        release()
        store.crash()
        disk = disk.crashed(using: &random)
        condition = .down
        onEnded(self)
    }

    /// Its disk is lost, and an empty one takes its place.
    func wipe() {
        kill()
        guard case .down = condition else { return }
        disk = SimulatedFileSystem()
        store = Self.emptyStore(options, seed: random.next())
        prepareDisk()
    }

    /// It goes and is never started again.
    func die() {
        cutPower()
        isDead = true
    }

    /// It was declared dead, and starts on what it had.
    func comeBackFromTheDead() {
        isDead = false
        isRetired = true
        start()
    }

    private func release() {
        process.end()
        mendedBefore = mendedBodies
        core?.log.stop()
        core = nil
        transport?.end()
        transport = nil
        for executor in executors { executor.stop() }
        executors = []
        driver = nil
    }

    deinit { release() }
}
