// Leaderships spread over nodes, without anybody who commands it: whoever leads too many regions hands some
// over to those who lead fewest.
//
//   seats of each node, as this node sees them ──▶ too many here? ──▶ how many go, and to whom
//                                                                      └─▶ regions whose peer there is ready
//
// What a node sees are the regions that it has a peer of. Where all nodes have a peer of every region all see
// the same; otherwise each evens out what it takes part in. A step moves half of the surplus at most, and the
// next one begins with what has come of it, so that several nodes at it at the same time do not overshoot by
// more than a seat.

package import UkehiBase
import UkehiRaft
import UkehiState

/// How many leaderships a node hands over, and to which nodes: a pure function of what it sees.
package struct LeaderBalance: Sendable {
    /// Imbalance that begins it, as a share of the mean (`sharding.rebalance_threshold`); it goes on to a
    /// quarter of that. Zero: never.
    package var threshold: Double
    /// It has begun and is not at its end.
    package private(set) var isBalancing = false

    package init(threshold: Double) { self.threshold = threshold }

    /// - Parameters:
    ///   - seats: Regions led by each node that could lead some, this one among them.
    /// - Returns: How many leaderships go, and the nodes that take them, those with fewest first; none: all
    ///   is well. Whoever moves them keeps to `fits`.
    package mutating func step(own: NodeID, seats: [NodeID: Int]) -> (count: Int, to: [NodeID]) {
        let mine = seats[own] ?? 0
        let mean = Double(seats.values.reduce(0, +)) / Double(max(1, seats.count))
        let least = seats.values.min() ?? mine
        let limit = mean * (1 + (isBalancing ? threshold / 4 : threshold))
        // Between two nodes that differ by one there is nothing to gain.
        isBalancing = threshold > 0 && Double(mine) > limit && mine - least >= 2
        guard isBalancing else { return (0, []) }
        let takers = seats.filter { $0.key != own && Self.fits(from: mine, to: $0.value) }
        let order = takers.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
        return (max(1, Int((Double(mine) - mean) / 2)), order.map(\.key))
    }

    /// Whether a seat may go from a node that has so many to one that has so many.
    package static func fits(from mine: Int, to theirs: Int) -> Bool { mine - theirs >= 2 }
}

extension Lane {
    /// Once a second, each lane in its turn: what others have handed over meanwhile is seen by then.
    func balanceLeaders() {
        guard leaderBalance.threshold > 0, draining == nil, let own = node, let host,
            Int(ticks / max(1, ticksPerSecond)) % options.laneCount == index
        else { return }
        let led = orderedRegions.filter { $0.isLeader && !$0.descriptor.isSystem }
        // Nodes that nobody here has heard of cannot take anything.
        var seats = host.seats().filter { $0.key == own }
        for region in led {
            for peer in region.descriptor.peers
            where peer.roles.contains(.voter) && peer.peer != region.peer && seats[peer.node] == nil
            {
                if region.raft.progress(of: peer.peer)?.isHeard ?? false { seats[peer.node] = 0 }
            }
        }
        for (node, count) in host.seats() where seats[node] != nil { seats[node] = count }
        var (left, takers) = leaderBalance.step(own: own, seats: seats)
        guard left > 0 else { return }
        for region in led where left > 0 && mayHandOver(region) {
            let view = memberView(of: region)
            let taker = takers.firstIndex { node in
                region.descriptor.peer(on: node).map {
                    $0.roles.contains(.voter) && view.isReady($0.peer)
                } ?? false
            }
            guard let taker, let heir = region.descriptor.peer(on: takers[taker]) else { continue }
            transferLeadership(of: region.id, to: heir.peer)
            left -= 1
            seats[own, default: 0] -= 1
            seats[heir.node, default: 0] += 1
            takers = takers.filter {
                LeaderBalance.fits(from: seats[own] ?? 0, to: seats[$0] ?? 0)
            }.sorted { (seats[$0] ?? 0, $0) < (seats[$1] ?? 0, $1) }
        }
    }

    /// Nothing is under way in the region that a new leader would have to begin again.
    private func mayHandOver(_ region: Region) -> Bool {
        region.raft.isLeader && region.raft.leadTransferee == .none && region.splitWaiter == nil
            && region.proposedSplit <= region.applied && region.absent.isEmpty
            && !region.descriptor.isJoint && !region.raft.hasPendingConfChange
            && (region.aim.map { $0.progress == .done || $0.progress == .refused } ?? true)
    }

    var ticksPerSecond: UInt64 { UInt64(max(1, 1000 / options.tickMilliseconds)) }
}
