// Members come and go, at random, through whoever leads: what an operator or a placement driver would do,
// without its sense. What a leader refuses is left.

import UkehiBase
import UkehiNode
import UkehiState

final class MembershipDriver {
    private let world: World
    private let nodes: [SimulatedNode]
    private let network: SimulatedNetwork
    private let regions: [RegionID]
    private let interval: UInt64
    /// Nodes whose disks may lose what they hold: they are never half of those that vote.
    private let damageable: Set<Int>
    private var random: SeededRandom
    /// Past every id that the cluster gave out itself.
    private var nextPeer: UInt64 = 1 << 20
    private var isStopped = false
    /// Changes that a leader took.
    private(set) var proposed = 0

    init(
        world: World, nodes: [SimulatedNode], network: SimulatedNetwork, regions: Int,
        everyMilliseconds: UInt64, damageable: Set<Int>, seed: UInt64
    ) {
        self.world = world
        self.nodes = nodes
        self.network = network
        self.regions = (0..<regions).map { RegionID(UInt64($0 + 2)) } + [.system]
        interval = everyMilliseconds * 1_000_000
        self.damageable = damageable
        random = SeededRandom(seed: seed ^ 0x4d45_4d42)
    }

    func start() {
        world.schedule(after: 1 + random.next() % (2 * interval)) { [weak self] in
            guard let self, !isStopped else { return }
            act()
            start()
        }
    }

    func stop() { isStopped = true }

    private func act() {
        let region = regions[Int(random.next() % UInt64(regions.count))]
        let dice = random.next()
        for node in nodes {
            guard let lane = node.lane, lane.memberView(of: region) != nil else { continue }
            let peer = PeerID(nextPeer)
            nextPeer += 1
            // Two may believe to lead; both are asked, as by operators who know no better.
            world.schedule(after: 0, of: node.process) { [weak self, weak lane] in
                guard let self, let lane, let view = lane.memberView(of: region) else { return }
                act(view, lane, peer, dice)
            }
        }
    }

    private func act(_ view: MemberView, _ lane: Lane, _ new: PeerID, _ dice: UInt64) {
        let members = view.descriptor.peers
        let choice = dice >> 32
        func pick(_ peers: [PeerDescriptor]) -> PeerDescriptor? {
            peers.isEmpty ? nil : peers[Int(choice % UInt64(peers.count))]
        }
        let learner = pick(members.filter { $0.roles == .learner })
        let voter = pick(members.filter { $0.roles == .voter && $0.peer != view.leader })
        let free = nodes.compactMap { network.nodeID(of: $0.number) }
            .filter { view.descriptor.peer(on: $0) == nil }
        // From one that the dice choose on, the first that the leader takes.
        for turn in 0..<7 as Range<UInt64> {
            let change: MemberChange?
            switch (dice + turn) % 7 {
            case 0:
                guard turn == 0 else { continue }
                if let voter { lane.transferLeadership(of: view.descriptor.region, to: voter.peer) }
                return
            case 1:
                change =
                    free.isEmpty
                    ? nil
                    : MemberChange([.addLearner(new, on: free[Int(choice % UInt64(free.count))])])
            case 2: change = learner.map { MemberChange([.promote($0.peer)]) }
            case 3:
                guard let learner, let voter else { continue }
                change = MemberChange([.promote(learner.peer), .demote(voter.peer)])
            case 4: change = voter.map { MemberChange([.demote($0.peer)]) }
            case 5: change = learner.map { MemberChange([.removeLearner($0.peer)]) }
            default: change = .leaveJoint
            }
            guard let change, isSafe(change, view.descriptor) else { continue }
            do throws(ChangeRefusal) {
                try lane.propose(change, in: view.descriptor.region)
                proposed += 1
                return
            } catch {}
        }
    }

    /// Whether most of those that vote afterwards have disks that lose nothing.
    private func isSafe(_ change: MemberChange, _ descriptor: RegionDescriptor) -> Bool {
        guard !damageable.isEmpty else { return true }
        var voters = Set(descriptor.peers.filter { $0.roles.contains(.voter) }.map(\.peer))
        for step in change.steps {
            switch step {
            case .promote(let peer): voters.insert(peer)
            case .demote(let peer): voters.remove(peer)
            default: break
            }
        }
        let atRisk = descriptor.peers.count { member in
            voters.contains(member.peer)
                && network.number(of: member.node).map(damageable.contains) ?? true
        }
        return atRisk * 2 < voters.count
    }
}
