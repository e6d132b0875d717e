// A node's regions, opened from what its log and its store hold: just born, as they were, or with a
// snapshot whose installation an earlier life of the process did not end.

import Logging
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
            let marks = try unfinished()
            var seeds: [RegionSeed] = []
            for (position, born) in record.regions.enumerated() where born.peer(on: node) != nil {
                // The position spreads the first leaders over the nodes.
                let preferred = record.nodes[position % record.nodes.count].node
                var seed = try seed(born, node: node, isNew: isNew, isPreferred: preferred == node)
                try finish(marks, &seed, node)
                try seed.check()
                seeds.append(seed)
            }
            let routes = seeds.filter { !$0.descriptor.isSystem }.map {
                Router.Route(
                    region: $0.descriptor.region, range: $0.descriptor.range,
                    lane: lane(of: $0.descriptor.region))
            }
            let router = Router(routes)
            let userRegions = seeds.map(\.descriptor).filter { !$0.isSystem }
            state.withLock { state in
                state.router = router
                state.descriptors = userRegions.sorted { $0.range.lower < $1.range.lower }
            }
            for lane in lanes {
                let own = seeds.filter { self.lane(of: $0.descriptor.region) == lane.index }
                lane.post(.install(own, node: node, cluster: record.cluster, router: router))
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

    private func seed(
        _ born: RegionDescriptor, node: NodeID, isNew: Bool, isPreferred: Bool
    ) throws(NodeError) -> RegionSeed {
        var applied: LogIndex
        do {
            applied = try applier.open(
                region: born.region, system: born.isSystem, range: born.range, epoch: born.epoch)
        } catch {
            throw NodeError(error)
        }
        if let keeper, !isNew, applier.givesSnapshots(of: born.region) {
            applied = try keeper.restore(born.region)
        }
        if isNew {
            return RegionSeed(
                descriptor: born, hardState: .empty, firstIndex: LogIndex(1), lastIndex: .zero,
                compactedTerm: .zero, terms: [], applied: applied, campaignsFirst: isPreferred)
        }
        guard let found = recovered.first(where: { $0.region == born.region }),
            let birth = found.birth
        else {
            throw NodeError(
                code: .corrupted,
                message: "The log has lost region \(born.region), of which this node is a member. "
                    + "It must not vote as if it had never been. Restore the log, or remove this "
                    + "node and join it anew.")
        }
        var reader = ByteReader(birth)
        guard let descriptor = try? RegionDescriptor.decode(from: &reader) else {
            throw NodeError(
                code: .corrupted,
                message: "The birth record of region \(born.region) cannot be read.")
        }
        return RegionSeed(
            descriptor: descriptor, hardState: found.hardState, firstIndex: found.firstIndex,
            lastIndex: found.lastIndex, compactedTerm: found.compactedTerm,
            terms: found.terms, damaged: found.damaged, applied: applied,
            campaignsFirst: false)
    }

    /// Marks of snapshots whose installation an earlier life of the process did not end.
    private func unfinished() throws(NodeError) -> [SnapshotMark] {
        do {
            return try snapshotFiles.prepare()
        } catch {
            throw NodeError(error, directory: directory)
        }
    }

    /// Goes on with a region's installation where it was ended (RULES 48).
    private func finish(
        _ marks: [SnapshotMark], _ seed: inout RegionSeed, _ node: NodeID
    ) throws(NodeError) {
        let region = seed.descriptor.region
        let peer = seed.descriptor.peer(on: node)?.peer
        for mark in marks where mark.region == region {
            if mark.peer == peer, mark.index > seed.applied {
                do {
                    try snapshotFiles.install(mark, with: applier)
                    seed.applied = mark.index
                    // In memory only: the mark stays until the log is reset, as at the first time.
                } catch let error as StateError {
                    throw NodeError(error)
                } catch {
                    // Nothing was replaced: the region is what it was, and is sent another one.
                    logger.error(
                        "a snapshot cannot be installed",
                        metadata: ["region": "\(region)", "reason": "\(error)"])
                }
            }
            if seed.applied == mark.index, seed.needsReset(to: mark) {
                seed.reset(to: mark)
            } else if seed.applied == mark.index, let keeper {
                try keep(mark, keeper)
            } else {
                snapshotFiles.remove(mark)
            }
        }
    }

    /// The log was reset, and the process ended before the mark became what is kept.
    private func keep(_ mark: SnapshotMark, _ keeper: SnapshotKeeper) throws(NodeError) {
        do throws(FileError) {
            try snapshotFiles.keep(mark)
        } catch {
            throw NodeError(error, directory: directory)
        }
        keeper.took(mark.region, mark.index, rawBytes: 0)
    }

    /// The lane that owns a region; lane numbers never leave the node.
    package func lane(of region: RegionID) -> Int {
        Int(region.rawValue % UInt64(options.laneCount))
    }
}
