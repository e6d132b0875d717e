// What a node knows of its regions while they come, change and go: one table for all lanes.

import Synchronization
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

extension NodeCore.State {
    /// This node's region of that id.
    func own(_ region: RegionID) -> RegionDescriptor? {
        region == .system ? system : table[region]
    }

    /// User regions, ascending by range: this node's, and those it has no peer of, as last known.
    var knownRegions: [RegionInfo] {
        let own = descriptors.map { $0.info(leader: leaders[$0.region]) }
        // Of its own regions a node knows best.
        let elsewhere = elsewhere
        guard !elsewhere.isEmpty else { return own }
        return (own + elsewhere.map { $0.info(leader: nil) }).sorted {
            $0.range.lower < $1.range.lower
        }
    }

    /// Takes in, or anew, a region of this node.
    mutating func insert(_ descriptor: RegionDescriptor) { insert([descriptor]) }

    /// The same of many, in one walk.
    mutating func insert(_ descriptors: [RegionDescriptor]) {
        for descriptor in descriptors {
            foreign[descriptor.region] = nil
            if descriptor.isSystem { system = descriptor }
        }
        table.insert(descriptors.filter { !$0.isSystem })
    }

    /// A region is this node's no more, and what its peer held is being cleared away: that may be more than
    /// the region has by now, where it was divided without this peer.
    mutating func remove(_ last: RegionDescriptor, held: KeyRange) {
        if last.isSystem {
            system = nil
            keeping.leads(in: .zero)
        }
        table.remove(last.region)
        foreign[last.region] = last
        keeping.heardAt[last.region] = generation
        leaders[last.region] = nil
        clearing[last.region] = held
    }
}

extension RegionSeed {
    /// The newest that is known of the region here.
    var current: RegionDescriptor { birth.newest(descriptor) }
}

extension NodeCore {
    package func leaderChanged(
        region: RegionID, leader: NodeID?, term: Term, isLocal: Bool
    ) {
        state.withLock { state in
            state.leaders[region] = leader
            if region == .system {
                state.keeping.leads(in: isLocal ? term : .zero)
            } else if isLocal {
                state.keeping.untold.insert(region)
            }
        }
        if region == .system && isLocal { recordCluster() }
    }

    package func membersChanged(_ descriptor: RegionDescriptor) {
        state.withLock { state in
            // A new peer replays what was before it.
            guard let known = state.own(descriptor.region),
                known.epoch.confVersion <= descriptor.epoch.confVersion,
                known.epoch.version <= descriptor.epoch.version
            else { return }
            state.insert(descriptor)
            state.toldAnew([descriptor.region])
        }
    }

    package func admits(_ birth: RegionBirth) -> Bool {
        let isAdmitted = admitsNow(birth)
        if !isAdmitted, !birth.origin.isSystem {
            // Whoever is in the way may have been divided, or removed, without having heard of it.
            let range = birth.naming.range
            let (inTheWay, wereGiven) = state.withLock { state in
                (
                    state.table.overlapping(range).map(\.region).filter { $0 != birth.region },
                    state.given.values.contains { $0.contains { $0.overlaps(range) } }
                )
            }
            for region in inTheWay { lanes[lane(of: region)].post(.inquire(region)) }
            // Until no crash undoes the division that gave the keys away, they may come back.
            if wereGiven { for lane in lanes { lane.post(.flushDivisions) } }
        }
        return isAdmitted
    }

    private func admitsNow(_ birth: RegionBirth) -> Bool {
        state.withLock { state in
            let region = birth.region
            guard state.own(region) == nil, state.clearing[region] == nil,
                state.waiting[region] == nil
            else { return false }
            if birth.origin.isSystem {
                state.insert(birth.naming)
                return true
            }
            let range = birth.naming.range
            #if BugBank
                let looks = !PlantedBug.createsAheadOfSplit.isPlanted
            #else
                let looks = true
            #endif
            // What came out of a region here, and is opened in a moment, is in neither table yet.
            guard !looks || state.table.overlapping(range).isEmpty,
                !state.waiting.values.contains(where: {
                    $0.birth.naming.range.overlaps(range)
                }),
                !state.clearing.contains(where: {
                    $0.key != .system && $0.value.overlaps(range)
                }),
                !state.given.values.contains(where: { $0.contains { $0.overlaps(range) } })
            else { return false }
            state.insert(birth.naming)
            return true
        }
    }

    package func buried(_ region: RegionID) {
        for lane in lanes { lane.post(.based([region])) }
    }

    package func born(_ birth: RegionBirth) {
        bootWorker.run { [self] in
            do throws(NodeError) {
                let seed = try newSeed(birth, campaigns: false)
                invariant(
                    seed.applied == .zero, "\(birth.region) was born over what another left")
                guard let node = nodeID else { return }
                install([seed], node: node)
            } catch {
                failed(error)
            }
        }
    }

    package func left(_ last: RegionDescriptor, held: KeyRange) {
        state.withLock { state in
            state.remove(last, held: held)
            state.given[last.region] = nil
            state.waiting[last.region] = nil
        }
        guard let node = nodeID else { return }
        install([], node: node)
    }

    /// Gives a region to its lane, and every lane the table with it, or without one that is gone.
    func install(_ seeds: [RegionSeed], node: NodeID) {
        let (router, record) = state.withLock { state in (route(&state), state.identity.record) }
        guard let cluster = record?.cluster else { return }
        for lane in lanes {
            let own = seeds.filter { self.lane(of: $0.descriptor.region) == lane.index }
            lane.post(.install(own, node: node, cluster: cluster, router: router))
        }
    }

    package func liveRanges() -> [KeyRange] { state.withLock { $0.descriptors.map(\.range) } }

    package func cleared(_ region: RegionID) {
        state.withLock { $0.clearing[region] = nil }
        settled(region, upTo: nil)
    }

    package func elsewhere(_ region: RegionID) -> RequestError.Rejection? {
        state.withLock { state in
            state.foreignRegion(region).flatMap { state.holders(of: $0) }
        }
    }

    package func knownNodes() -> [NodeID] {
        state.withLock { $0.identity.record?.registry.present.map(\.node) ?? [] }
    }

    /// Has this node's leaders hand over to other nodes' peers, for an election timeout at most. Before
    /// ``stop()``, while the lanes' clocks run.
    package func drain() async {
        let isRunning = state.withLock { $0.isOpen && $0.failure == nil && !$0.isStopping }
        guard isRunning else { return }
        for lane in lanes {
            await withCheckedContinuation { continuation in
                lane.post(.drain { continuation.resume() })
            }
        }
    }
}
