// New regions that come out of one: entered, opened, and found again after a crash.

import Synchronization
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

/// A region whose birth was recovered, and whose keys come with the replay of what it came out of.
struct WaitingRegion {
    var found: RecoveredRegion
    var birth: RegionBirth
    var marks: [SnapshotMark]
}

extension NodeCore {
    package func knows(_ region: RegionID) -> Bool {
        state.withLock {
            $0.own(region) != nil || $0.waiting[region] != nil || $0.foreignRegion(region) != nil
        }
    }

    /// The region whose replay brings the keys of one that waits here; nil: that one does not wait.
    package func replays(for region: RegionID) -> RegionID? {
        state.withLock { state in
            var last: RegionID?
            while let parent = state.waiting[last ?? region]?.birth.parting?.parent {
                last = parent
            }
            return last
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

    package func isAwaited(_ region: RegionID) -> Bool {
        state.withLock {
            !$0.waiting.isEmpty
                && $0.waiting.values.contains { $0.birth.parting?.parent == region }
        }
    }

    package func openAhead(_ births: [RegionBirth], leaders: [PeerID]) {
        // The parent holds the range until the division is applied: the tables stay as they are.
        let (router, record) = state.withLock { ($0.router, $0.identity.record) }
        guard let node = nodeID, let cluster = record?.cluster else { return }
        for lane in lanes {
            let seeds = zip(births, leaders).filter { self.lane(of: $0.0.region) == lane.index }
                .map { RegionSeed(newborn: $0, leader: $1, on: node, hasKeys: false) }
            guard !seeds.isEmpty else { continue }
            lane.post(.install(seeds, node: node, cluster: cluster, router: router))
        }
    }

    package func divided(
        _ parent: RegionDescriptor, into births: [RegionBirth], leaders: [PeerID]
    ) {
        guard let node = nodeID else { return }
        let (waiting, fresh) = state.withLock { state in
            let waiting = births.filter { state.waiting[$0.region] != nil }.map(\.region)
            var fresh: [RegionSeed] = []
            for (birth, leader) in zip(births, leaders) where !waiting.contains(birth.region) {
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
        bootWorker.run { [self] in
            do throws(NodeError) {
                let seeds = try seeds(ofWaiting: waiting, node)
                state.withLock { state in
                    state.insert(seeds.map(\.current))
                    for seed in seeds { state.waiting[seed.birth.region] = nil }
                }
                install(seeds, node: node)
            } catch {
                failed(error)
            }
        }
    }

    package func gave(_ ranges: [KeyRange], by region: RegionID) {
        state.withLock { $0.given[region, default: []] += ranges }
    }

    package func keepsGiven(by region: RegionID) {
        state.withLock { $0.given[region] = nil }
    }

    /// Regions whose keys have come with their parent's replay; and those that came out of them before
    /// what was kept of them, which they will not replay.
    private func seeds(
        ofWaiting regions: [RegionID], _ node: NodeID
    ) throws(NodeError) -> [RegionSeed] {
        let waiting = state.withLock { $0.waiting }
        var seeds: [RegionSeed] = []
        func add(_ id: RegionID, applied: LogIndex?) throws(NodeError) {
            guard let region = waiting[id], let own = region.birth.naming.peer(on: node)?.peer
            else { return }
            let base: LogIndex
            if let applied { base = applied } else { base = try open(region.birth) }
            let seed = try recoveredSeed(
                region.found, region.birth, own, applied: base, region.marks)
            seeds.append(seed)
            for child in waiting.values.sorted(by: { $0.birth.region < $1.birth.region }) {
                if let parting = child.birth.parting, parting.parent == id, parting.peer == own,
                    parting.index <= seed.applied
                {
                    try add(child.birth.region, applied: nil)
                }
            }
        }
        for id in regions { try add(id, applied: SplitRules.firstApplied) }
        return seeds
    }

    /// Whether a region has no keys before another one here has replayed what it came out of: `applied`
    /// says how far a peer here has.
    func waits(
        _ found: RecoveredRegion, _ birth: RegionBirth,
        applied: (_ region: RegionID, _ peer: PeerID) -> LogIndex?
    ) -> Bool {
        guard let parting = birth.parting, birth.introduction == nil,
            found.lastIndex >= SplitRules.firstApplied,
            let applied = applied(parting.parent, parting.peer)
        else { return false }
        return applied < parting.index
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
