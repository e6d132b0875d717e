// Nodes on one thread: a network of queues, a disk in memory, a clock that only the test moves.
// Only the log's writer threads are real; the cluster waits for them, never for time.

import Logging
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

/// Time as the test says.
final class ManualClock: NodeClock {
    private let nanoseconds = Atomic<UInt64>(1_000_000_000)
    func now() -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds.load(ordering: .relaxed)) }
    func wallNanoseconds() -> UInt64 { nanoseconds.load(ordering: .relaxed) }
    func advance(milliseconds: Int) {
        nanoseconds.add(UInt64(milliseconds) * 1_000_000, ordering: .relaxed)
    }
}

/// A seeded sequence (splitmix64).
final class NodeRandom: RandomSource {
    private let state: Mutex<UInt64>
    init(seed: UInt64) { state = Mutex(seed) }
    func next() -> UInt64 {
        state.withLock { state in
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }
}

/// Does work at once, on the caller's thread.
final class InlineWorker: Worker {
    func run(_ work: @escaping @Sendable () -> Void) { work() }
    func stop() {}
}

/// Keeps work until the test lets it run, on the test's thread.
final class HeldWorker: Worker, @unchecked Sendable {
    // Safety: used on the test's thread only.
    private(set) var held: [@Sendable () -> Void] = []
    var isHolding = true
    func run(_ work: @escaping @Sendable () -> Void) {
        if isHolding { held.append(work) } else { work() }
    }
    func release() {
        while !held.isEmpty { held.removeFirst()() }
    }
    /// Takes the oldest piece out, undone.
    func takeFirst() -> @Sendable () -> Void { held.removeFirst() }
    /// The process is gone, and with it what it had still to do.
    func forget() { held = [] }
    func stop() { release() }
}

/// Wakes are remembered; the cluster runs the passes.
final class ManualExecutor: LaneExecutor, @unchecked Sendable {
    // Safety: `lanes` and `isStopped` are touched under the board's lock or on the test's thread.
    let board: WakeBoard
    private(set) var ticking: Lane?
    init(board: WakeBoard) { self.board = board }
    /// Whether the test's thread passes for the lane's.
    var inLane = false
    func wake(_ lane: Lane) { board.wake(lane) }
    func startTicks(everyNanoseconds interval: UInt64, lane: Lane) { ticking = lane }
    func stop() { ticking = nil }
}

/// The lanes that have something to do; other threads add to it.
final class WakeBoard: @unchecked Sendable {
    // Safety: `lanes` is touched only under `lock`.
    private let lock = Mutex(())
    private var lanes: [Lane] = []

    func wake(_ lane: Lane) {
        lock.withLock { _ in
            if !lanes.contains(where: { $0 === lane }) { lanes.append(lane) }
        }
    }
    func next() -> Lane? {
        lock.withLock { _ in lanes.isEmpty ? nil : lanes.removeFirst() }
    }
}

/// Delivers what the test lets through.
final class QueueNetwork: @unchecked Sendable {
    // Safety: used on the test's thread only.
    struct Packet {
        var from: NodeID
        var to: NodeID
        var messages: [RegionMessage]
    }
    var packets: [Packet] = []
    var transports: [String: QueueTransport] = [:]
    /// Whether a packet is dropped.
    var drops: (Packet) -> Bool = { _ in false }
}

final class QueueTransport: Transport, @unchecked Sendable {
    // Safety: used on the test's thread only.
    let network: QueueNetwork
    let address: String
    var events: (any TransportEvents)?
    var dialed: [String] = []
    var refusals: [String] = []

    init(network: QueueNetwork, address: String) {
        self.network = network
        self.address = address
        super.init()
    }
    override func start(_ events: any TransportEvents, peers: [String]) {
        self.events = events
        dialed = peers
        network.transports[address] = self
    }
    /// Makes every connection that can be made; the hello on both sides.
    func dial() {
        guard let events else { return }
        for peer in dialed {
            guard let other = network.transports[peer], let remote = other.events else { continue }
            switch remote.judge(events.localHello(), dialed: nil) {
            case .accept: break
            case .refuse(let reason):
                refusals.append(reason)
                events.refused(reason, dialed: peer)
                continue
            case .dismiss(let reason):
                refusals.append(reason)
                events.dismissed(reason, by: peer)
                continue
            }
            switch events.judge(remote.localHello(), dialed: peer) {
            case .accept: break
            case .refuse(let reason):
                refusals.append(reason)
                continue
            case .dismiss(let reason):
                refusals.append(reason)
                remote.dismissed(reason, by: address)
                continue
            }
            events.connected(remote.localHello(), dialed: peer)
        }
    }
    override func dial(_ addresses: [String]) {
        dialed += addresses.filter { !dialed.contains($0) }
    }
    override func hangUp(_ addresses: [String]) { dialed.removeAll { addresses.contains($0) } }
    override func send(_ messages: [RegionMessage], to node: NodeID, lane: Int) {
        guard let from = events?.localHello().node else { return }
        network.packets.append(QueueNetwork.Packet(from: from, to: node, messages: messages))
    }
    override func sendControl(_ bytes: Bytes, to address: String) {
        guard let events, let other = network.transports[address]?.events else { return }
        other.received(control: bytes, from: events.localHello())
    }
    override func stop() async { network.transports[address] = nil }
}

/// Collects replies by tag.
final class CollectingSink: ReplySink, @unchecked Sendable {
    // Safety: replies come on the test's thread.
    var replies: [UInt64: Reply] = [:]
    override func reply(_ reply: Reply, tag: UInt64) {
        replies[tag] = reply
    }
}

/// What nodes died of.
final class Failures: Sendable {
    private let errors = Mutex<[NodeError]>([])
    func add(_ error: NodeError) { errors.withLock { $0.append(error) } }
    var isEmpty: Bool { errors.withLock { $0.isEmpty } }
    var all: [NodeError] { errors.withLock { $0 } }
    var codes: [NodeError.Code] { errors.withLock { $0.map(\.code) } }
}

/// Several nodes, driven by hand.
final class TestCluster {
    struct Member {
        let name: String
        var fileSystem: SimulatedFileSystem
        /// Outlives the process, as a disk does; nil: a fresh store in memory at each start.
        var store: CrashModelStore?
        var core: NodeCore?
        var transport: QueueTransport
        var executor: ManualExecutor
    }
    let network = QueueNetwork()
    let clock = ManualClock()
    let board = WakeBoard()
    let sink = CollectingSink()
    var members: [Member] = []
    let failures = Failures()
    private var nextTag: UInt64 = 1
    private let ranges: [KeyRange]
    let options: (inout NodeOptions) -> Void
    /// Set before any member starts.
    var logOptions: (inout WALOptions) -> Void = { _ in }
    /// Members whose logs write nothing until they are let go.
    var heldLogs: Set<Int> = []
    /// Takes the place of some of a member's workers; nil: those do everything at once.
    var worker: @Sendable (_ member: Int, _ name: String) -> (any Worker)? = { _, _ in nil }

    init(
        nodes: Int, regions: Int = 4, storeSeed: UInt64? = nil, flushesUnasked: Bool = true,
        options: @escaping (inout NodeOptions) -> Void = { _ in }
    ) {
        ranges = StaticRanges.ranges(count: regions)
        self.options = options
        for number in 0..<nodes {
            let name = "node-\(number + 1)"
            members.append(
                Member(
                    name: name, fileSystem: SimulatedFileSystem(),
                    store: storeSeed.map {
                        CrashModelStore(
                            seed: $0 &+ UInt64(number),
                            options: .init(
                                flushesUnaskedOneIn: flushesUnasked ? 64 : 0, isInMemory: false))
                    }, core: nil,
                    transport: QueueTransport(network: network, address: name),
                    executor: ManualExecutor(board: board)))
        }
    }

    /// Starts a member on what its disk holds; its address is its name unless another is given.
    func start(_ number: Int, name: String? = nil, at address: String? = nil) throws {
        var member = members[number]
        let address = address ?? member.name
        member.transport = QueueTransport(network: network, address: address)
        member.executor = ManualExecutor(board: board)
        var nodeOptions = NodeOptions(
            name: name ?? member.name, address: address,
            peers: members.map(\.name).filter { $0 != member.name })
        nodeOptions.initialRanges = ranges
        options(&nodeOptions)
        var walOptions = WALOptions()
        walOptions.segmentBytes = 1 << 20
        logOptions(&walOptions)
        let random = NodeRandom(seed: UInt64(number) &* 77 &+ clock.now().nanoseconds)
        let core = try NodeCore(
            options: nodeOptions, directory: "data",
            environment: NodeEnvironment(
                fileSystem: member.fileSystem, clock: clock, random: random, usesThreads: false,
                makeWorker: { [worker] in worker(number, $0) ?? InlineWorker() }),
            walOptions: walOptions,
            makeApplier: { [store = member.store] in KeyValueApplier(store: store ?? MemoryStore())
            },
            transport: member.transport, executors: [member.executor],
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            onFailure: { [failures] error in failures.add(error) })
        member.core = core
        members[number] = member
        try core.start()
    }

    func startAll() throws {
        for number in members.indices { try start(number) }
    }

    /// Takes a member away as a power cut does: what was not synced may be gone.
    func crash(_ number: Int, seed: UInt64) {
        var random = UkehiSimulation.SeededRandom(seed: seed)
        release(number)
        network.transports[members[number].transport.address] = nil
        _ = members[number].store?.crash()
        members[number].fileSystem = members[number].fileSystem.crashed(using: &random)
    }

    /// Lets go of a member's objects, which hold each other until a node stops.
    private func release(_ number: Int) {
        members[number].core?.log.stop()
        members[number].core = nil
        members[number].transport.events = nil
        members[number].executor.stop()
    }

    deinit {
        for number in members.indices { release(number) }
    }

    /// Delivers and runs until nothing moves.
    func settle() {
        var moved = true
        while moved {
            moved = false
            while let lane = board.next() {
                lane.runPass()
                moved = true
            }
            for (number, member) in members.enumerated() where !heldLogs.contains(number) {
                guard let log = member.core?.log else { continue }
                while let work = log.takeWork() {
                    log.perform(work)
                    moved = true
                }
                while log.prepareStep() { moved = true }
            }
            let packets = network.packets
            network.packets.removeAll()
            for packet in packets where !network.drops(packet) {
                guard let member = members.first(where: { $0.core?.nodeID == packet.to }) else {
                    continue
                }
                member.core?.received(packet.messages, from: packet.from)
                moved = true
            }
        }
    }

    /// The same, so many steps of it at most: a lane's pass, a piece of the log's work, a packet. Returns how many
    /// there were.
    func settle(atMost steps: Int) -> Int {
        var done = 0
        var moved = true
        while moved, done < steps {
            moved = false
            while done < steps, let lane = board.next() {
                lane.runPass()
                done += 1
                moved = true
            }
            for member in members {
                guard let log = member.core?.log else { continue }
                while done < steps, let work = log.takeWork() {
                    log.perform(work)
                    done += 1
                    moved = true
                }
                if done < steps { while log.prepareStep() { moved = true } }
            }
            while done < steps, !network.packets.isEmpty {
                let packet = network.packets.removeFirst()
                done += 1
                moved = true
                members.first { $0.core?.nodeID == packet.to }?.core?
                    .received(packet.messages, from: packet.from)
            }
        }
        return done
    }

    /// Lets time pass, one tick of every node at a time.
    func pass(milliseconds: Int) {
        for _ in 0..<max(1, milliseconds / 50) {
            clock.advance(milliseconds: 50)
            for member in members { member.transport.dial() }
            for member in members { member.executor.ticking?.tick() }
            settle()
        }
    }

    /// Hands in a request at a member and returns its tag.
    @discardableResult
    func submit(
        _ number: Int, _ operation: ClientOperation, key: Bytes, patience milliseconds: Int? = nil
    ) -> UInt64 {
        let tag = nextTag
        nextTag += 1
        var request = ClientRequest(operation: operation, key: key, sink: sink, tag: tag)
        if let milliseconds {
            request.deadline = clock.now() + UInt64(milliseconds) * 1_000_000
        }
        members[number].core?.submit(request)
        return tag
    }

    /// Writes through whoever leads the key's region, and lets everything settle.
    func write(_ command: Command) throws -> Reply? {
        guard let leader = leader(of: command.key) else { return nil }
        let tag = submit(leader, .write(record: try command.encoded()), key: command.key)
        settle()
        return sink.replies[tag]
    }

    func read(_ key: Bytes, at number: Int, _ mode: ReadMode = .linearizable) -> Reply? {
        let tag = submit(number, .get(mode), key: key)
        settle()
        return sink.replies[tag]
    }

    /// The member that leads the key's region and knows it.
    func leader(of key: Bytes) -> Int? {
        members.indices.first { members[$0].core?.leads(key) ?? false }
    }
}
