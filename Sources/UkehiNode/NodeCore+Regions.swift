// Opening the regions of a node: from what the log and the state store hold, or just born.

import Synchronization
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension NodeCore {
    /// Opens this node's regions from what the log recovered, or, just born, from nothing.
    func open(_ record: ClusterRecord, isNew: Bool) {
        do {
            guard let node = state.withLock({ $0.identity.node }) else { return }
            if isNew { _ = try unfinished() }
            let seeds = isNew ? try newSeeds(record, node) : try recoveredSeeds(record, node)
            let graves = isNew ? [] : try clearGraves(keeping: seeds)
            let router = state.withLock { state in
                state.insert(seeds.filter(\.hasKeys).map(\.current))
                for born in record.regions where state.own(born.region) == nil {
                    state.foreign[born.region] = born
                }
                for grave in graves {
                    state.foreign[grave.last.region] = grave.last
                    state.clearing[grave.last.region] = grave.last.range
                }
                return route(&state)
            }
            for lane in lanes {
                let own = seeds.filter { self.lane(of: $0.descriptor.region) == lane.index }
                let dead = graves.filter { self.lane(of: $0.last.region) == lane.index }
                lane.post(
                    .install(own, node: node, cluster: record.cluster, router: router))
                if !dead.isEmpty { lane.post(.graves(dead)) }
                executors[lane.index].startTicks(
                    everyNanoseconds: UInt64(options.tickMilliseconds) * 1_000_000, lane: lane)
            }
            let waiters = state.withLock { state in
                state.isOpen = true
                defer { state.openWaiters = [] }
                return state.openWaiters
            }
            for waiter in waiters { waiter(.success(())) }
        } catch {
            failed(error)
        }
    }

    /// The table of this node's regions as it is now, made anew.
    func route(_ state: inout State) -> Router {
        state.router = Router(
            state.descriptors.map {
                Router.Route(region: $0.region, range: $0.range, lane: lane(of: $0.region))
            }, generation: state.router.generation + 1)
        return state.router
    }

    /// The regions of a cluster that has just come to be.
    private func newSeeds(
        _ record: ClusterRecord, _ node: NodeID
    ) throws(NodeError) -> [RegionSeed] {
        var seeds: [RegionSeed] = []
        for (position, born) in record.regions.enumerated() where born.peer(on: node) != nil {
            // The position spreads the first leaders over the nodes.
            let preferred = record.nodes[position % record.nodes.count].node
            seeds.append(try newSeed(RegionBirth(origin: born), campaigns: preferred == node))
        }
        return seeds
    }

    /// A region that holds nothing yet.
    func newSeed(_ birth: RegionBirth, campaigns: Bool) throws(NodeError) -> RegionSeed {
        RegionSeed(
            birth: birth, descriptor: birth.origin, hardState: .empty, firstIndex: LogIndex(1),
            lastIndex: .zero, compactedTerm: .zero, terms: [], applied: try open(birth),
            campaignsFirst: campaigns)
    }

    func open(_ birth: RegionBirth) throws(NodeError) -> LogIndex {
        do throws(StateError) {
            return try applier.open(
                region: birth.region, system: birth.origin.isSystem, range: birth.firstRange,
                epoch: birth.origin.epoch)
        } catch {
            throw NodeError(error)
        }
    }

    /// The regions that the log says are here.
    private func recoveredSeeds(
        _ record: ClusterRecord, _ node: NodeID
    ) throws(NodeError) -> [RegionSeed] {
        for born in record.regions where born.peer(on: node) != nil {
            // What began here is here, or has left a tombstone.
            let found = recovered.first { $0.region == born.region }
            guard found?.birth != nil || found?.tombstone != nil else {
                throw NodeError(
                    code: .corrupted,
                    message: "The log has lost region \(born.region), of which this node is a "
                        + "member. It must not vote as if it had never been. Restore the log, or "
                        + "remove this node and join it anew.")
            }
        }
        let marks = try unfinished()
        var seeds: [RegionSeed] = []
        var waiting: [RegionID: WaitingRegion] = [:]
        // What came out of a region has a higher id.
        for found in recovered.sorted(by: { $0.region < $1.region }) {
            guard let bytes = found.birth else { continue }
            guard let birth = try? RegionBirth.decode(bytes), birth.region == found.region,
                let own = birth.naming.peer(on: node)
            else { throw NodeError.unreadableBirth(of: found.region) }
            let isWaiting = waits(found, birth) { region, peer in
                // One that waits itself has applied nothing of what was after its own beginning.
                if let parent = waiting[region]?.birth, parent.naming.peer(on: node)?.peer == peer {
                    return .zero
                }
                return seeds.first {
                    $0.birth.region == region && $0.birth.naming.peer(on: node)?.peer == peer
                }?.applied
            }
            var known = WaitingRegion(
                found: found, birth: birth, marks: marks.filter { $0.region == found.region })
            if isWaiting {
                if let seed = try seed(ahead: known, own.peer) {
                    seeds.append(seed)
                    known.isOpen = true
                }
                waiting[found.region] = known
                continue
            }
            var seed = try recoveredSeed(
                found, birth, own.peer, applied: try open(birth), marks)
            if seed.keysAreLost {
                // What its parent has left here is cleared away first, for good.
                seed.keysAreLost = birth.parting.map { !gone.contains($0.parent) } ?? true
                (known.isOpen, known.isLost) = (true, seed.keysAreLost)
                waiting[found.region] = known
            }
            seeds.append(seed)
        }
        // Of regions that are here no more.
        for mark in marks
        where waiting[mark.region] == nil
            && !seeds.contains(where: { $0.birth.region == mark.region })
        {
            snapshotFiles.remove(mark)
        }
        let found = waiting
        state.withLock { $0.waiting = found }
        return seeds
    }

    /// A region as the log has it, with the state that is there: `applied` is how far that is, or further
    /// by what was kept beside it.
    func recoveredSeed(
        _ found: RecoveredRegion, _ birth: RegionBirth, _ peer: PeerID, applied: LogIndex,
        _ marks: [SnapshotMark]
    ) throws(NodeError) -> RegionSeed {
        var seed = RegionSeed(birth, found)
        seed.absent = absent(of: peer, in: found.region)
        // What it would have begun with went with its parent: it has nothing.
        if found.lastIndex < birth.logBegins { seed.hardState.commit = .zero }
        // A snapshot that is installed now replaces what the region has, not what it had when it began:
        // that is others' meanwhile (seed 68).
        try narrow(&seed)
        let resumed = try resume(birth, peer, applied: applied, marks) { seed.needsReset(to: $0) }
        seed.applied = resumed.applied
        if let mark = resumed.reset { seed.reset(to: mark) }
        try narrow(&seed)
        seed.losesKeys(of: peer)
        try seed.check()
        #if BugBank
            if PlantedBug.leadsFirstTermAgain.isPlanted, birth.parting != nil {
                seed.leadsFirst =
                    seed.hardState.term == SplitRules.firstTerm && seed.hardState.vote == peer
                    && seed.lastIndex == SplitRules.firstApplied
                    && seed.applied == SplitRules.firstApplied
            }
        #endif
        return seed
    }

    /// Whom a peer does not count, since a recovery has it lead without them.
    func absent(of peer: PeerID, in region: RegionID) -> Set<NodeID> {
        let identity = state.withLock { $0.identity }
        guard identity.forced.contains(where: { $0.region == region && $0.peer == peer }) else {
            return []
        }
        return identity.record?.registry.absent ?? []
    }

    /// The region as the state has it now, and no other keys.
    private func narrow(_ seed: inout RegionSeed) throws(NodeError) {
        seed.descriptor = try descriptor(of: seed.birth)
        do throws(StateError) {
            try applier.setRange(seed.current.range, of: seed.birth.region)
        } catch {
            throw NodeError(error)
        }
    }

    /// Regions that were here; what they left is cleared away again, since a crash may have brought it
    /// back.
    private func clearGraves(keeping seeds: [RegionSeed]) throws(NodeError) -> [RegionTombstone] {
        // What one without keys has in its range is not its own.
        let live = seeds.filter { !$0.descriptor.isSystem && $0.hasKeys }.map(\.current.range)
        var graves: [RegionTombstone] = []
        for found in recovered {
            guard let bytes = found.tombstone else { continue }
            guard let tombstone = try? RegionTombstone.decode(bytes),
                tombstone.last.region == found.region
            else {
                throw NodeError(
                    code: .corrupted,
                    message: "The tombstone of region \(found.region) cannot be read.")
            }
            let last = tombstone.last
            do throws(FileError) {
                try keeper?.forget(last.region)
            } catch {
                throw NodeError(error, directory: directory)
            }
            do throws(StateError) {
                try applier.remove(
                    region: last.region, system: last.isSystem, range: last.range,
                    keeping: last.isSystem ? [] : live, grave: tombstone.peer.rawValue)
            } catch {
                throw NodeError(error)
            }
            graves.append(tombstone)
        }
        return graves
    }

    /// The region as of what the state store has applied: what an entry made of it, or as it was born.
    private func descriptor(of birth: RegionBirth) throws(NodeError) -> RegionDescriptor {
        let region = birth.region
        let stored: Bytes?
        let epoch: RegionEpoch
        do throws(StateError) {
            stored = try applier.descriptor(region: region)
            epoch = try applier.epoch(region: region)
        } catch {
            throw NodeError(error)
        }
        var descriptor = birth.origin
        if let stored {
            guard let decoded = try? RegionDescriptor.decode(stored), decoded.region == region
            else {
                throw NodeError(
                    code: .corrupted,
                    message: "Region \(region): its descriptor in the state store cannot be read. "
                        + "Restore log and state from one backup, or remove this node and join it "
                        + "anew.")
            }
            descriptor = decoded
        }
        // They are written together: one without the other would be a wrong quorum.
        guard descriptor.epoch == epoch else {
            throw NodeError(
                code: .corrupted,
                message: "Region \(region): the state is of epoch \(epoch), its members of "
                    + "\(descriptor.epoch). Log and state are of different times; restore both "
                    + "from one backup, or remove this node and join it anew.")
        }
        return descriptor
    }

    /// The lane that owns a region; lane numbers never leave the node.
    package func lane(of region: RegionID) -> Int {
        Int(region.rawValue % UInt64(options.laneCount))
    }
}
