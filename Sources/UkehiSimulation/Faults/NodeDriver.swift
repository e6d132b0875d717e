// What an operator would do, at random times. Regions are given to some of the nodes, now to these, now to those.
// Then all nodes hold everything, one loses its disk, and comes back empty under its old name: as a new node,
// which takes the place of the old one as soon as it is known.

import UkehiBase
import UkehiNode
import UkehiState

final class NodeDriver: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private static let pause: UInt64 = 500_000_000
    private let world: World
    private let nodes: [SimulatedNode]
    private let network: SimulatedNetwork
    private let observer: ClusterObserver
    private let regions: [RegionID]
    private let interval: UInt64
    private let report: (Int) -> Void
    private var random: SeededRandom
    private var hasBegun = false
    private var isStopped = false
    private var nextWipe: UInt64 = 0
    /// Regions that are not held by all nodes yet, and are to be: before a disk is lost, and after it.
    private var open: Set<RegionID> = []
    /// All is held by all, and a disk is to be lost.
    private var isGathered = false
    private(set) var wipes = 0
    /// Which of its wishes is the last: what a paused process hears of an earlier one comes to nothing.
    private var wish = 0
    private var lastReason = ""

    /// - Parameter report: Told of each node that is wiped.
    init(
        world: World, nodes: [SimulatedNode], network: SimulatedNetwork, observer: ClusterObserver,
        regions: Int, everyMilliseconds: UInt64, seed: UInt64, report: @escaping (Int) -> Void
    ) {
        self.world = world
        self.nodes = nodes
        self.network = network
        self.observer = observer
        self.regions = (0..<regions).map { RegionID(UInt64($0 + 2)) } + [.system]
        self.report = report
        interval = everyMilliseconds * 1_000_000
        random = SeededRandom(seed: seed ^ 0x5749_5045)
    }

    /// Whether every region's members are the nodes that there are.
    var isWhole: Bool { open.isEmpty }
    /// Whether all nodes have been up once: before that nothing is known to be lost.
    var hasCluster: Bool { hasBegun }

    /// A region whose places are not filled.
    var openRegion: RegionID? { open.min() }

    /// What it waits for, in words.
    var standing: String {
        let ids = nodes.map { "\($0.number + 1) is \($0.core?.nodeID.map { "\($0)" } ?? "none")" }
        return "regions \(open.sorted()); " + ids.joined(separator: ", ") + lastReason
    }

    func start() {
        world.schedule(after: Self.pause) { [weak self] in
            guard let self else { return }
            act()
            start()
        }
    }

    /// No more disks are lost; places that are open are filled.
    func stop() {
        isStopped = true
        wish += 1
        if hasBegun { open = Set(regions) }
    }

    private func act() {
        if !hasBegun {
            hasBegun = nodes.allSatisfy { $0.core?.topology != nil }
            nextWipe = world.now + random.next() % interval
            return
        }
        guard open.isEmpty else { return replace() }
        guard !isStopped else { return }
        guard world.now >= nextWipe else { return move() }
        guard isGathered else {
            // A disk that one of few members alone has is lost rightfully.
            isGathered = true
            wish += 1
            open = Set(regions)
            return replace()
        }
        isGathered = false
        nextWipe = world.now + random.next() % (2 * interval)
        let node = nodes[Int(random.next() % UInt64(nodes.count))]
        guard !node.isLost else { return }
        wipes += 1
        report(node.number)
        observer.wiped(node.number)
        network.forget(node.number)
        node.wipe()
        open = Set(regions)
        world.schedule(after: random.next() % 2_000_000_000) { node.start() }
    }

    /// Asks whoever leads some region to have some nodes as members, once.
    private func move() {
        let known = nodes.compactMap { $0.core?.nodeID }
        guard known.count == nodes.count else { return }
        let region = regions[Int(random.next() % UInt64(regions.count))]
        let count = Int.random(in: 1...known.count, using: &random)
        let wanted = Array(known.shuffled(using: &random).prefix(count))
        ask(region, for: wanted, ReportSink { _ in })
    }

    /// Asks whoever leads to have all nodes as members, again and again.
    private func replace() {
        let wanted = nodes.compactMap { $0.core?.nodeID }
        guard wanted.count == nodes.count else { return }
        let sink = ReportSink { [weak self] report in
            self?.lastReason = "; \(report.region): \(report.progress) \(report.reason)"
            // A leader that is cut off may not know of the newest members yet, and say that it is done.
            guard let self, report.progress == .done,
                let newest = observer.configurations.newest.first(where: {
                    $0.region == report.region
                }), newest.peers.allSatisfy({ $0.roles == .voter }),
                Set(newest.peers.map(\.node)) == Set(wanted)
            else { return }
            open.remove(report.region)
        }
        for region in open.sorted() { ask(region, for: wanted, sink) }
    }

    private func ask(_ region: RegionID, for wanted: [NodeID], _ sink: ReportSink) {
        let wish = wish
        for node in nodes {
            world.schedule(after: 0, of: node.process) { [weak self] in
                guard self?.wish == wish else { return }
                node.core?.submit(
                    ClientRequest(
                        operation: .members(region, .set(wanted)), key: Bytes(), sink: sink,
                        tag: 0))
            }
        }
    }
}

/// Takes reports of members.
private final class ReportSink: ReplySink, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let body: (MemberReport) -> Void
    init(_ body: @escaping (MemberReport) -> Void) {
        self.body = body
        super.init()
    }
    override func reply(_ reply: Reply, tag: UInt64) {
        if case .members(let report) = reply { body(report) }
    }
}
