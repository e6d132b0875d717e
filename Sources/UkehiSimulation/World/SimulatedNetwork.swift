// The network between simulated nodes: sessions that break, packets that are late, lost, doubled and
// overtake each other, and partitions of any shape.

import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiRaft

/// How all links behave now.
struct NetworkBehaviour {
    /// One way, nanoseconds.
    var latency: ClosedRange<UInt64> = 100_000...1_000_000
    /// Packets lost, in ten thousand.
    var lossPerTenThousand: UInt64 = 0
    /// Packets delivered twice, in ten thousand.
    var duplicationPerTenThousand: UInt64 = 0
    /// Packets held up on their way, in ten thousand, and for how long at most.
    var delayPerTenThousand: UInt64 = 0
    var maxDelay: UInt64 = 3_000_000_000
    /// The node that what is sent to arrives late, up to so many nanoseconds, whatever partition begins
    /// meanwhile: it had left before.
    var lateTo: Int?
    var maxLateness: UInt64 = 0
    /// Whether packets may overtake each other.
    var reorders = false
    /// Each message alone rather than a pass's messages together.
    var splitsBatches = false
}

/// Connects the transports of one cluster.
final class SimulatedNetwork {
    let world: World
    var behaviour = NetworkBehaviour()
    private var random: SeededRandom
    private(set) var endpoints: [SimulatedTransport] = []
    /// `blocked[from][to]`: nothing gets through, one way.
    private var blocked: [[Bool]] = []
    /// Multiplies the latency of packets from and to a node.
    private var slowness: [UInt64] = []
    /// When a node sent what its last power cut swallowed.
    private var swallowed: [ClosedRange<UInt64>?] = []
    /// When the last packet of each link arrives, where packets keep their order.
    private var lastArrival: [[UInt64]] = []
    /// Which node answers at which number, once it is known; another one only after its disk was wiped.
    private var nodeIDs: [NodeID?]
    /// Packets that faults have lost, doubled and held up so far.
    private(set) var lost = 0
    private(set) var doubled = 0
    private(set) var delayed = 0
    /// Packets that arrived although their way is cut by now.
    private(set) var acrossCuts = 0
    /// Told of all messages that a node sends.
    var onSend: (_ from: Int, _ messages: [RegionMessage]) -> Void = { _, _ in }

    init(world: World, nodes: Int, random: SeededRandom) {
        self.world = world
        self.random = random
        blocked = Array(repeating: Array(repeating: false, count: nodes), count: nodes)
        lastArrival = Array(repeating: Array(repeating: 0, count: nodes), count: nodes)
        slowness = Array(repeating: 1, count: nodes)
        swallowed = Array(repeating: nil, count: nodes)
        nodeIDs = Array(repeating: nil, count: nodes)
    }

    func nodeID(of number: Int) -> NodeID? {
        if let known = nodeIDs[number] { return known }
        nodeIDs[number] = endpoints[number].events?.localHello().node
        return nodeIDs[number]
    }

    /// The directory at this number is another one from now on.
    func forget(_ number: Int) { nodeIDs[number] = nil }

    func number(of node: NodeID) -> Int? {
        endpoints.indices.first { nodeID(of: $0) == node }
    }

    func add(_ endpoint: SimulatedTransport) {
        if endpoint.number < endpoints.count {
            endpoints[endpoint.number] = endpoint
        } else {
            invariant(endpoint.number == endpoints.count, "endpoints join in order")
            endpoints.append(endpoint)
        }
    }

    // MARK: Faults

    func setBlocked(_ isBlocked: Bool, from: Int, to: Int) { blocked[from][to] = isBlocked }
    func isBlocked(from: Int, to: Int) -> Bool { blocked[from][to] }
    func slowness(of node: Int) -> UInt64 { slowness[node] }
    func setSlowness(_ factor: UInt64, of node: Int) { slowness[node] = factor }

    /// What a node has sent since `start` never left it: its power went first.
    func swallow(packetsOf node: Int, since start: UInt64) { swallowed[node] = start...world.now }

    func heal() {
        behaviour.lossPerTenThousand = 0
        behaviour.duplicationPerTenThousand = 0
        behaviour.delayPerTenThousand = 0
        behaviour.lateTo = nil
        for node in blocked.indices {
            slowness[node] = 1
            for other in blocked.indices { blocked[node][other] = false }
        }
    }

    // MARK: Packets

    private func latency(_ from: Int, _ to: Int) -> UInt64 {
        UInt64.random(in: behaviour.latency, using: &random) * max(slowness[from], slowness[to])
    }

    private func chance(_ perTenThousand: UInt64) -> Bool {
        perTenThousand > 0 && random.next() % 10_000 < perTenThousand
    }

    func send(_ messages: [RegionMessage], from: SimulatedTransport, to: Int) {
        onSend(from.number, messages)
        if behaviour.splitsBatches {
            for message in messages { sendPacket([message], from: from, to: to) }
        } else {
            sendPacket(messages, from: from, to: to)
        }
    }

    private func sendPacket(_ messages: [RegionMessage], from: SimulatedTransport, to: Int) {
        // Drawn whatever happens, so that a fault more or less does not shift every later chance.
        let isLost = chance(behaviour.lossPerTenThousand)
        let isDoubled = chance(behaviour.duplicationPerTenThousand)
        var delay = latency(from.number, to)
        if chance(behaviour.delayPerTenThousand) {
            delayed += 1
            delay += random.next() % behaviour.maxDelay
        }
        if isLost { lost += 1 }
        if isDoubled { doubled += 1 }
        guard from.isConnected(to: to) else { return from.lost(to) }
        if isLost || blocked[from.number][to] { return from.lost(to) }
        let isLate = behaviour.lateTo == to && random.oneIn(2)
        if isLate {
            delayed += 1
            delay += random.next() % behaviour.maxLateness
        }
        deliver(messages, from: from, to: to, after: delay, whateverIsCut: isLate)
        if isDoubled {
            deliver(messages, from: from, to: to, after: delay + latency(from.number, to))
        }
    }

    private func deliver(
        _ messages: [RegionMessage], from: SimulatedTransport, to: Int, after delay: UInt64,
        whateverIsCut: Bool = false
    ) {
        var arrival = world.now + delay
        if !behaviour.reorders, !whateverIsCut {
            arrival = max(arrival, lastArrival[from.number][to] + 1)
            lastArrival[from.number][to] = arrival
        }
        let target = endpoints[to]
        guard let sender = nodeID(of: from.number) else { return }
        let sent = world.now
        world.schedule(after: arrival - sent, of: target.process) { [self] in
            if blocked[from.number][to] {
                guard whateverIsCut else { return }
                acrossCuts += 1
            }
            if let span = swallowed[from.number], span.contains(sent) { return }
            for position in messages.indices { messages[position].mix(into: &world.trace) }
            target.events?.received(messages, from: sender)
        }
    }

    /// Bytes of the bootstrap conversation: as late as others, never doubled.
    func sendControl(_ bytes: Bytes, from: SimulatedTransport, to: Int) {
        guard from.isConnected(to: to), !blocked[from.number][to] else { return }
        let target = endpoints[to]
        world.schedule(after: latency(from.number, to), of: target.process) {
            guard let hello = from.events?.localHello() else { return }
            target.events?.received(control: bytes, from: hello)
        }
    }
}

extension RegionMessage {
    /// What distinguishes messages, short of their entries' bytes.
    fileprivate func mix(into trace: inout TraceHash) {
        trace.mix(UInt64(message.kind.rawValue) << 56 ^ region.rawValue)
        trace.mix(message.term.rawValue << 32 ^ message.index.rawValue)
        trace.mix(message.commit.rawValue << 32 ^ UInt64(message.entries.count))
    }
}

/// One life of one node's network.
final class SimulatedTransport: Transport, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    let number: Int
    let process: Process
    private let network: SimulatedNetwork
    private var random: SeededRandom
    private(set) var events: (any TransportEvents)?
    private var peers: [Int] = []
    /// Nodes whose present life this one has shaken hands with, by number.
    private var sessions: [Int: UInt32] = [:]
    /// What was last heard of those that had no node id, or were called by one that had none.
    private var unnamed: [Int: Hello] = [:]
    /// Nodes that were reported unreachable since the last handshake.
    private var reported: Set<Int> = []

    init(
        network: SimulatedNetwork, number: Int, process: Process, random: SeededRandom
    ) {
        self.network = network
        self.number = number
        self.process = process
        self.random = random
        super.init()
        network.add(self)
    }

    static func address(of number: Int) -> String { "node-\(number + 1):7878" }
    private static func number(of address: String, among count: Int) -> Int? {
        (0..<count).first { SimulatedTransport.address(of: $0) == address }
    }

    override func start(_ events: any TransportEvents, peers: [String]) {
        self.events = events
        self.peers = peers.compactMap {
            SimulatedTransport.number(of: $0, among: network.endpoints.count)
        }
        dial()
    }

    override func dial(_ addresses: [String]) {
        for address in addresses {
            guard
                let number = SimulatedTransport.number(
                    of: address, among: network.endpoints.count), !peers.contains(number)
            else { continue }
            peers.append(number)
        }
    }

    /// Calls whom it has no session with, again and again; and says hello again where one side has no
    /// node id yet.
    private func dial() {
        let pause = UInt64.random(in: 20_000_000...200_000_000, using: &random)
        network.world.schedule(after: pause, of: process) { [self] in
            for peer in peers where !isConnected(to: peer) || unnamed[peer] != nil {
                shakeHands(with: peer)
            }
            dial()
        }
    }

    private func shakeHands(with peer: Int) {
        let other = network.endpoints[peer]
        guard let events, let remote = other.events, !other.process.isPaused,
            !network.isBlocked(from: number, to: peer), !network.isBlocked(from: peer, to: number)
        else { return }
        let address = SimulatedTransport.address(of: peer)
        let mine = events.localHello()
        let theirs = remote.localHello()
        switch remote.judge(mine, dialed: nil) {
        case .accept: break
        case .refuse(let reason): return events.refused(reason, dialed: address)
        case .dismiss(let reason): return events.dismissed(reason, by: address)
        }
        switch events.judge(theirs, dialed: address) {
        case .accept: break
        case .refuse: return
        case .dismiss(let reason): return remote.dismissed(reason, by: mine.address)
        }
        let isNews = !isConnected(to: peer) || unnamed[peer] != theirs
        unnamed[peer] = mine.node == nil || theirs.node == nil ? theirs : nil
        sessions[peer] = other.process.life
        reported.remove(peer)
        if isNews { events.connected(theirs, dialed: address) }
    }

    /// A session lasts as long as both processes; each side dials its own.
    func isConnected(to peer: Int) -> Bool {
        let other = network.endpoints[peer]
        return other.events != nil && sessions[peer] == other.process.life
    }

    /// What was sent did not get through: told once per break, after a moment.
    func lost(_ peer: Int) {
        guard reported.insert(peer).inserted, let events else { return }
        guard let node = network.nodeID(of: peer) else { return }
        network.world.schedule(after: 1_000_000, of: process) { [self] in
            events.unreachable(node)
            // A link that loses packets without breaking may be reported again.
            network.world.schedule(after: 100_000_000, of: process) { [self] in
                reported.remove(peer)
            }
        }
    }

    override func send(_ messages: [RegionMessage], to node: NodeID, lane: Int) {
        guard let target = network.number(of: node) else { return }
        network.send(messages, from: self, to: target)
    }

    override func sendControl(_ bytes: Bytes, to address: String) {
        guard
            let target = SimulatedTransport.number(of: address, among: network.endpoints.count)
        else { return }
        network.sendControl(bytes, from: self, to: target)
    }

    override func stop() async { end() }

    /// The process is gone.
    func end() {
        events = nil
        sessions = [:]
        unnamed = [:]
    }
}
