// Regions are divided, at random, through whoever leads: between keys that clients use, at keys that are
// there, at keys that nothing can be divided at. What a leader refuses is left.

import UkehiBase
import UkehiNode
import UkehiState

final class SplitDriver: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let world: World
    private let nodes: [SimulatedNode]
    private let keys: SimulatedKeys
    private let interval: UInt64
    private var random: SeededRandom
    /// Past every id that the cluster or a ``MembershipDriver`` gives out.
    private var nextID: UInt64 = 1 << 40
    /// Whether ids come from the cluster's allocator: where regions are divided unasked, too, what comes out of
    /// one has to have a higher id than it has.
    private let asksForIDs: Bool
    /// New regions that it has named; not all of them came to be.
    private(set) var named: Set<RegionID> = []
    /// Those of commands that were stale when they were put into a log: none may come to be.
    private(set) var void: Set<RegionID> = []
    private var isStopped = false
    /// Regions are not made without end.
    private let most = 40
    /// Commands that a leader took.
    private(set) var proposed = 0

    init(
        world: World, nodes: [SimulatedNode], keys: SimulatedKeys, everyMilliseconds: UInt64,
        asksForIDs: Bool, seed: UInt64
    ) {
        self.world = world
        self.nodes = nodes
        self.keys = keys
        self.asksForIDs = asksForIDs
        interval = everyMilliseconds * 1_000_000
        random = SeededRandom(seed: seed ^ 0x5350_4c49_54)
    }

    func start() {
        world.schedule(after: 1 + random.next() % (2 * interval)) { [weak self] in
            guard let self, !isStopped, proposed < most else { return }
            act()
            start()
        }
    }

    func stop() { isStopped = true }

    private func act() {
        let key = Int(random.next() % UInt64(keys.count))
        var ends = [keys.name(key)]
        // Two at once, or one that is no place to divide at.
        if random.oneIn(4) { ends.append(keys.name((key + 1) % keys.count)) }
        if random.oneIn(8) { ends.append(Bytes()) }
        let isStale = random.oneIn(6)
        let pause = isStale ? random.next() % 300_000_000 : 0
        for node in nodes {
            guard let lane = node.lane, let region = node.core?.region(of: ends[0]),
                lane.memberView(of: region) != nil
            else { continue }
            let leader = random.next()
            guard asksForIDs else {
                propose(to: node, region, ends, pause: pause, first: nextID, leader)
                nextID += Self.idsPerCommand
                continue
            }
            let keys = ends
            world.schedule(after: 0, of: node.process) { [weak self] in
                node.core?.allocate(Int(Self.idsPerCommand), outOf: nil) { [weak self] first in
                    guard let self, let first else { return }
                    propose(to: node, region, keys, pause: pause, first: first, leader)
                }
            }
        }
    }

    private static let idsPerCommand: UInt64 = 256

    private func propose(
        to node: SimulatedNode, _ region: RegionID, _ ends: [Bytes], pause: UInt64,
        first: UInt64, _ leader: UInt64
    ) {
        let isStale = pause > 0
        guard let lane = node.lane else { return }
        // Two may believe to lead; both are asked.
        world.schedule(after: 0, of: node.process) { [weak self, weak lane] in
            guard let self, let lane, let view = lane.memberView(of: region) else { return }
            let command = command(view, ends, first: first, leader)
            named.formUnion(command.parts.map(\.region))
            // As it was is not as it is by then.
            world.schedule(after: pause, of: node.process) { [weak self, weak lane] in
                guard let self, let lane else { return }
                if isStale, let now = lane.memberView(of: region)?.descriptor.epoch,
                    now != view.descriptor.epoch
                {
                    void.formUnion(command.parts.map(\.region))
                    return lane.forge(command, of: view.descriptor.epoch, in: region)
                }
                if (try? lane.propose(command, in: region)) != nil { proposed += 1 }
            }
        }
    }

    private func command(
        _ view: MemberView, _ ends: [Bytes], first: UInt64, _ leader: UInt64
    ) -> SplitCommand {
        var id = first
        func next() -> UInt64 {
            id += 1
            return id
        }
        return SplitCommand(
            parts: ends.map { end in
                let region = RegionID(next())
                let peers = view.descriptor.peers.map { _ in PeerID(next()) }
                let voters = zip(view.descriptor.peers, peers).filter { $0.0.roles == .voter }
                // Mostly who leads now.
                let own = voters.first { $0.0.peer == view.leader } ?? voters.first
                let other = voters.isEmpty ? nil : voters[Int(leader % UInt64(voters.count))]
                let chosen = leader % 3 == 0 ? other : own
                return SplitCommand.Part(
                    region: region, end: end, leader: chosen?.1 ?? .none, peers: peers)
            })
    }
}
