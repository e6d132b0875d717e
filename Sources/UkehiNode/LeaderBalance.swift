// Leaderships spread over nodes, without anybody who commands it: whoever leads too many regions, or regions
// of which too much is asked, hands some over to those who lead least.
//
//   seats that each node says it has         ──▶ too many here? ──▶ how many go, and to whom
//   operations a second that it says it has  ──▶ too much here?      └─▶ regions whose peer there is ready
//
// By load the busiest region goes that does not make the other node the busier one; by number the idlest go, so
// that the second does not undo the first. All go by what each says of itself: what one node sees of another are
// the regions that both have a peer of, and two that went by that would hand one region to and fro (seed 2910101
// of `members`). A step moves half of the surplus at most, and the next one begins with what has come of it, so
// that several nodes at it at the same time do not overshoot by more than a seat.

import Synchronization
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
    /// So has the sharing of load.
    package private(set) var isSharing = false

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

    /// The same by load.
    ///
    /// - Parameters:
    ///   - loads: Operations a second of what each node leads that could lead more, this one among them.
    ///   - least: A difference below this is none.
    /// - Returns: How much goes at most, and the nodes that take it, those with the least first.
    package mutating func step(
        own: NodeID, loads: [NodeID: Double], least: Double
    ) -> (operations: Double, to: [NodeID]) {
        let mine = loads[own] ?? 0
        let mean = loads.values.reduce(0, +) / Double(max(1, loads.count))
        let limit = mean * (1 + (isSharing ? threshold / 4 : threshold))
        isSharing = threshold > 0 && mine > limit && mine - (loads.values.min() ?? mine) >= least
        guard isSharing else { return (0, []) }
        let takers = loads.filter { $0.key != own && $0.value < mean }
        return (mine - mean, takers.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map(\.key))
    }

    /// Whether a seat may go from a node that has so many to one that has so many.
    package static func fits(from mine: Int, to theirs: Int) -> Bool { mine - theirs >= 2 }
}

extension Lane {
    /// Once a second, each lane in its turn: what others have handed over meanwhile is seen by then.
    func balanceLeaders() {
        guard let own = node, let host else { return }
        let led = orderedRegions.filter { $0.isLeader && !$0.descriptor.isSystem }
        var load = NodeLoads.Load(
            operations: led.reduce(0) { $0 + Self.load($1) }, seats: led.count)
        if isDiskFull {
            load = .full
        } else if logStall != nil {
            load = .stalled
        } else if ticks < calmAt || awaitsKeysForLong {
            load = .calming
        }
        host.leads(load, lane: index)
        guard leaderBalance.threshold > 0, draining == nil,
            Int(ticks / ticksPerSecond) % options.laneCount == index
        else {
            return
        }
        // Nodes that nobody here has heard of cannot take anything.
        var heard: Set<NodeID> = [own]
        for region in led {
            for peer in region.descriptor.peers where peer.roles.contains(.voter) {
                guard !heard.contains(peer.node) else { continue }
                if region.raft.progress(of: peer.peer)?.isHeard ?? false { heard.insert(peer.node) }
            }
        }
        guard heard.count > 1 else { return }
        // Those that should lead nothing take none, and are no measure for the others.
        let loads = host.loads().filter {
            heard.contains($0.key) && ($0.key == own || !$0.value.isSpared)
        }
        guard loads.count > 1 else { return }
        if ticks >= sharedLoadAt + 3 * ticksPerSecond,
            shareLoad(led, own, loads.mapValues(\.operations))
        {
            // What came of it shows in averages of some seconds.
            sharedLoadAt = ticks
        } else {
            evenOut(led, own, loads.mapValues(\.seats))
        }
    }

    /// Whether regions here have had no keys for a while, and could not be led.
    private var awaitsKeysForLong: Bool {
        awaitingRegions.contains { ticks >= $0.awaitsKeysSince + 2 * ticksPerSecond }
    }

    private static func load(_ region: Region) -> Double { region.load.meter.average.operations }

    /// Hands the busiest regions over that fit, if this node has too much to do.
    private func shareLoad(_ led: [Region], _ own: NodeID, _ known: [NodeID: Double]) -> Bool {
        var loads = known
        var (left, takers) = leaderBalance.step(
            own: own, loads: loads, least: options.leastSharedLoad)
        var isShared = false
        for region in led.sorted(by: { (Self.load($1), $0.id) < (Self.load($0), $1.id) }) {
            guard let taker = takers.first else { break }
            let load = Self.load(region)
            // It must not make the other one the busier.
            let room = min(left, ((loads[own] ?? 0) - (loads[taker] ?? 0)) / 2)
            guard load > 0, load <= room, mayHandOver(region), hand(region, to: [taker]) != nil
            else { continue }
            isShared = true
            left -= load
            loads[own, default: 0] -= load
            loads[taker, default: 0] += load
            takers.sort { (loads[$0] ?? 0, $0) < (loads[$1] ?? 0, $1) }
        }
        return isShared
    }

    /// Hands the idlest regions over, if this node leads too many.
    private func evenOut(_ led: [Region], _ own: NodeID, _ known: [NodeID: Int]) {
        var seats = known
        var (left, takers) = leaderBalance.step(own: own, seats: seats)
        guard left > 0 else { return }
        for region in led.sorted(by: { (Self.load($0), $0.id) < (Self.load($1), $1.id) })
        where left > 0 && mayHandOver(region) {
            guard let heir = hand(region, to: takers) else { continue }
            left -= 1
            seats[own, default: 0] -= 1
            seats[heir, default: 0] += 1
            takers = takers.filter {
                LeaderBalance.fits(from: seats[own] ?? 0, to: seats[$0] ?? 0)
            }.sorted { (seats[$0] ?? 0, $0) < (seats[$1] ?? 0, $1) }
        }
    }

    /// Hands a region over to the first of these nodes whose peer could lead it now.
    private func hand(_ region: Region, to takers: [NodeID]) -> NodeID? {
        let view = memberView(of: region)
        for taker in takers {
            guard let heir = region.descriptor.peer(on: taker), heir.roles.contains(.voter),
                view.isReady(heir.peer)
            else { continue }
            transferLeadership(of: region.id, to: heir.peer)
            return taker
        }
        return nil
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

// MARK: - What nodes tell each other

/// What the nodes have to do, as they say.
package struct NodeLoads {
    package struct Load: Hashable, Sendable {
        /// A second, of what the node leads.
        package var operations: Double
        /// Regions that it leads, the system region not counted.
        package var seats: Int
        // Of a node that should lead nothing: more than anybody has to do.

        /// Its log did not answer a while ago.
        static let calming = Load(operations: 1e12, seats: 1 << 20)
        /// It does not answer.
        static let stalled = Load(operations: 1e12, seats: 1 << 21)
        /// Its volume has no room.
        static let full = Load(operations: 1e12, seats: 1 << 22)
        /// The balancer gives it nothing to lead.
        var isSpared: Bool { seats >= Self.calming.seats }
        /// It takes no leadership that is offered.
        var isUnfit: Bool { seats >= Self.stalled.seats }
        var isFull: Bool { seats >= Self.full.seats }
    }
    /// Of this node, a lane each.
    var own: [Load]
    /// Of others, and this node's look at which they said so.
    var others: [NodeID: (load: Load, look: UInt64)] = [:]
    /// What was said longer ago is not gone by.
    static let looks: UInt64 = 4
    /// More nodes than that are not remembered for longer.
    static let many = 64

    init(lanes: Int) { own = Array(repeating: Load(operations: 0, seats: 0), count: lanes) }

    var sum: Load {
        if let spared = own.filter(\.isSpared).max(by: { $0.seats < $1.seats }) { return spared }
        return own.reduce(into: Load(operations: 0, seats: 0)) { sum, lane in
            sum.operations += lane.operations
            sum.seats += lane.seats
        }
    }
}

extension NodeCore {
    package func leads(_ load: NodeLoads.Load, lane: Int) {
        state.withLock { $0.loads.own[lane] = load }
    }

    package func loads() -> [NodeID: NodeLoads.Load] {
        state.withLock { state in
            guard let own = state.identity.node else { return [:] }
            let now = state.tending.looks
            var loads = state.loads.others.filter { $0.value.look + NodeLoads.looks >= now }
                .mapValues(\.load)
            loads[own] = state.loads.sum
            return loads
        }
    }

    /// Once a second: tells the others what this node has to do.
    func tellLoad() {
        let (load, term, map, others) = state.withLock { state in
            (
                state.loads.sum, state.keeping.term, state.keeping.map.revision,
                (state.identity.record?.registry.present ?? []).map(\.node).filter {
                    $0 != state.identity.node
                }
            )
        }
        let message = Message(
            kind: .nodeLoad, term: term, logTerm: term > .zero ? Term(map) : .zero,
            index: LogIndex(UInt64(min(load.operations, 1e15))),
            commit: LogIndex(UInt64(load.seats)))
        for node in others { send(message, to: node) }
    }

    func received(load message: Message, from node: NodeID) {
        heard(node, leadsSystemIn: message.term, mapAt: message.logTerm.rawValue)
        let load = NodeLoads.Load(
            operations: Double(message.index.rawValue),
            seats: Int(clamping: min(message.commit.rawValue, 1 << 32)))
        state.withLock { state in
            let now = state.tending.looks
            state.loads.others[node] = (load, now)
            // Nodes that are none any more are forgotten.
            guard state.loads.others.count > NodeLoads.many else { return }
            state.loads.others = state.loads.others.filter {
                $0.value.look + NodeLoads.looks >= now
            }
        }
    }
}
