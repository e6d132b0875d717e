// New regions that come out of one: entered, opened, and found again after a crash.

import Synchronization
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension NodeCore {
    package func knows(_ region: RegionID) -> Bool {
        state.withLock {
            $0.own(region) != nil || $0.waiting[region] != nil || $0.foreignRegion(region) != nil
        }
    }

    package func inherit(_ load: RegionLoad, by region: RegionID) {
        lanes[lane(of: region)].post(.inherit(region, load))
    }

    package func standing(ofChild region: RegionID) -> ChildStanding {
        let (isWaiting, isHere) = state.withLock { state in
            (state.waiting[region] != nil, state.own(region) != nil)
        }
        if isWaiting { return .waiting }
        // Of this life there is none of its own: an entry is applied once in each.
        return gone.contains(region) ? .gone : isHere ? .taken : .new
    }

    package func openAhead(_ births: [RegionBirth], leaders: [PeerID], by own: Lane) {
        // The parent holds the range until the division is applied: the tables stay as they are.
        let (router, record) = state.withLock { ($0.router, $0.identity.record) }
        guard let node = nodeID, let cluster = record?.cluster else { return }
        for lane in lanes {
            let seeds = zip(births, leaders).filter { self.lane(of: $0.0.region) == lane.index }
                .map { RegionSeed(newborn: $0, leader: $1, on: node, hasKeys: false) }
            guard !seeds.isEmpty else { continue }
            if lane === own {
                // In this very pass: another one may be long in coming.
                lane.take(seeds, node: node, cluster: cluster, router: router)
            } else {
                lane.post(.install(seeds, node: node, cluster: cluster, router: router))
            }
        }
    }

    package func divided(
        _ parent: RegionDescriptor, into births: [RegionBirth], leaders: [PeerID]
    ) {
        guard let node = nodeID else { return }
        let (waiting, fresh) = state.withLock { state in
            var waiting: [RegionID] = []
            var fresh: [RegionSeed] = []
            for (birth, leader) in zip(births, leaders) {
                if let known = state.waiting[birth.region], !known.isOpen {
                    waiting.append(birth.region)
                    continue
                }
                // One that runs already is given its keys, and nothing else of this.
                state.waiting[birth.region] = nil
                fresh.append(RegionSeed(newborn: birth, leader: leader, on: node))
            }
            state.insert([parent] + fresh.map(\.birth.origin))
            state.toldAnew([parent.region] + fresh.map(\.birth.region))
            // What it was told of this cluster's regions before is past.
            if !state.foreign.isEmpty {
                state.foreign = state.foreign.filter { known in
                    known.value.isSystem
                        || !births.contains { $0.origin.range.overlaps(known.value.range) }
                }
            }
            return (waiting, fresh)
        }
        install(fresh, node: node)
        guard !waiting.isEmpty else { return }
        wake(waiting, applied: SplitRules.firstApplied, node)
    }

    package func gave(_ ranges: [KeyRange], by region: RegionID) {
        state.withLock { $0.given[region, default: []] += ranges }
    }

    package func keepsGiven(by region: RegionID) {
        state.withLock { $0.given[region] = nil }
    }

}

extension RegionSeed {
    /// A region that has just come out of another one here, or is about to.
    fileprivate init(
        newborn birth: RegionBirth, leader: PeerID, on node: NodeID, hasKeys: Bool = true
    ) {
        self.init(
            birth: birth, descriptor: birth.origin,
            hardState: SplitRules.hardState(votingFor: leader),
            firstIndex: SplitRules.firstApplied + 1, lastIndex: SplitRules.firstApplied,
            compactedTerm: SplitRules.firstAppliedTerm, terms: [],
            applied: SplitRules.firstApplied, campaignsFirst: false, hasKeys: hasKeys,
            leadsFirst: birth.origin.peer(on: node)?.peer == leader,
            firstLeader: birth.origin.peer(on: node)?.peer == leader ? nil : leader)
    }
}

extension NodeError {
    static func unreadableBirth(of region: RegionID) -> NodeError {
        NodeError(
            code: .corrupted, message: "The birth record of region \(region) cannot be read.")
    }
}
