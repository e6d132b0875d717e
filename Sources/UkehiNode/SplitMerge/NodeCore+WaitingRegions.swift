// Regions that came out of others in an earlier life of the process, and whose keys are not here.
//
//   found at a start: its parent here has not applied the division
//     -> its core runs without keys, if its log is all there: it votes and appends
//     -> the parent replays the division: the keys are here
//     -> or the parent never will, since a snapshot took the place of its log, or it is gone: they are lost here,
//        and come with a snapshot from the region's own leader (Lane+LostKeys.swift)
//   found at a start: the parent is past the division or gone, and the state has nothing of it: the same
//
// Invariant: nothing puts keys of such a region into the state while its parent holds its range.

import Synchronization
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

/// A region whose birth was recovered, and whose keys are not here.
struct WaitingRegion {
    var found: RecoveredRegion
    var birth: RegionBirth
    var marks: [SnapshotMark]
    /// Its core runs without them: it votes and appends. Otherwise it is silent.
    var isOpen = false
    /// They do not come with the replay of what it came out of, but from its leader.
    var isLost = false
}

extension NodeCore {
    /// The region whose replay brings the keys of one that waits here; nil: that one does not wait.
    package func replays(for region: RegionID) -> RegionID? {
        state.withLock { state in
            var last: RegionID?
            while let waiting = state.waiting[last ?? region], !waiting.isLost,
                let parent = waiting.birth.parting?.parent
            {
                last = parent
            }
            return last
        }
    }

    package func awaitedIndex(of region: RegionID) -> LogIndex? {
        state.withLock { state in
            guard !state.waiting.isEmpty else { return nil }
            return state.waiting.values.compactMap { waiting in
                guard let parting = waiting.birth.parting, !waiting.isLost else { return nil }
                return parting.parent == region ? parting.index : nil
            }.max()
        }
    }

    package func isGiven(_ range: KeyRange) -> Bool {
        state.withLock { $0.given.values.contains { $0.contains { $0.overlaps(range) } } }
    }

    package func settled(_ parent: RegionID, upTo index: LogIndex?) {
        let ids: [RegionID] = state.withLock { state in
            guard !state.waiting.isEmpty else { return [] }
            return state.waiting.values.filter { waiting in
                guard !waiting.isLost, let parting = waiting.birth.parting else { return false }
                return parting.parent == parent && parting.index <= index ?? parting.index
            }.map(\.birth.region).sorted()
        }
        guard !ids.isEmpty, let node = nodeID else { return }
        wake(ids, applied: nil, node)
    }

    package func keysRestored(_ region: RegionDescriptor) {
        state.withLock { state in
            state.waiting[region.region] = nil
            state.insert(region)
        }
        guard let node = nodeID else { return }
        install([], node: node)
    }

    /// Regions wait no more: `applied` is how far the state has them; nil: what it has of them is to be seen.
    func wake(_ regions: [RegionID], applied: LogIndex?, _ node: NodeID) {
        bootWorker.run { [self] in
            do throws(NodeError) {
                let (seeds, lost) = try seeds(ofWaiting: regions, applied: applied, node)
                state.withLock { state in
                    state.insert(seeds.filter(\.hasKeys).map(\.current))
                    for seed in seeds where seed.hasKeys { state.waiting[seed.birth.region] = nil }
                    for seed in seeds where !seed.hasKeys {
                        state.waiting[seed.birth.region]?.isOpen = true
                        state.waiting[seed.birth.region]?.isLost = true
                    }
                    for region in lost { state.waiting[region]?.isLost = true }
                }
                install(seeds, node: node)
                for region in lost { lanes[lane(of: region)].post(.keysLost(region)) }
            } catch {
                failed(error)
            }
        }
    }

    /// Those that were silent, as they begin now, with those that came out of them before what was kept of
    /// them, which they will not replay; and those that run, and have lost their keys.
    private func seeds(
        ofWaiting regions: [RegionID], applied: LogIndex?, _ node: NodeID
    ) throws(NodeError) -> (seeds: [RegionSeed], lost: [RegionID]) {
        let waiting = state.withLock { $0.waiting }
        var seeds: [RegionSeed] = []
        var lost: [RegionID] = []
        func add(_ id: RegionID, applied: LogIndex?) throws(NodeError) {
            guard let region = waiting[id], !region.isLost,
                let own = region.birth.naming.peer(on: node)?.peer
            else { return }
            let base: LogIndex
            if let applied { base = applied } else { base = try open(region.birth) }
            guard !region.isOpen else { return lost.append(id) }
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
        for id in regions { try add(id, applied: applied) }
        return (seeds, lost)
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

    /// A waiting region as it runs without its keys; nil: its log begins behind its beginning, or its state was
    /// kept apart, so that it is silent until that can be given to it.
    func seed(ahead waiting: WaitingRegion, _ peer: PeerID) throws(NodeError) -> RegionSeed? {
        guard waiting.found.firstIndex == SplitRules.firstApplied + 1,
            try keeper?.hasKept(waiting.birth.region) != true,
            !environment.rarePaths.takes(.openedWithKeys)
        else { return nil }
        var seed = RegionSeed(waiting.birth, waiting.found)
        seed.absent = absent(of: peer, in: waiting.birth.region)
        seed.applied = SplitRules.firstApplied
        seed.hasKeys = false
        return seed
    }
}

extension RegionSeed {
    /// As the log has it, with nothing applied.
    init(_ birth: RegionBirth, _ found: RecoveredRegion) {
        self.init(
            birth: birth, descriptor: birth.origin, hardState: found.hardState,
            firstIndex: found.firstIndex, lastIndex: found.lastIndex,
            compactedTerm: found.compactedTerm, terms: found.terms, damaged: found.damaged,
            applied: .zero, campaignsFirst: false)
    }

    /// The log has all of it, and the state nothing, since its parent will not bring the keys any more: others are to
    /// give it theirs.
    mutating func losesKeys(of own: PeerID) {
        let others = birth.origin.peers.filter { member in
            member.roles.contains(.voter) && !absent.contains(member.node)
                && member.peer != own
        }
        guard birth.parting != nil, birth.introduction == nil, !others.isEmpty,
            firstIndex == SplitRules.firstApplied + 1, lastIndex >= SplitRules.firstApplied,
            applied < SplitRules.firstApplied
        else { return }
        applied = SplitRules.firstApplied
        hasKeys = false
        keysAreLost = true
    }
}
