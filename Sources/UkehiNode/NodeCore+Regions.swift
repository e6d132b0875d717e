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
            var seeds: [RegionSeed] = []
            for (position, born) in record.regions.enumerated() where born.peer(on: node) != nil {
                // The position spreads the first leaders over the nodes.
                let preferred = record.nodes[position % record.nodes.count].node
                seeds.append(
                    try seed(born, node: node, isNew: isNew, isPreferred: preferred == node))
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
                lane.post(.install(own, node: node, router: router))
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
        let applied: LogIndex
        do {
            applied = try applier.open(
                region: born.region, system: born.isSystem, range: born.range, epoch: born.epoch)
        } catch {
            throw NodeError(error)
        }
        if isNew {
            return RegionSeed(
                birth: RegionBirth(origin: born), descriptor: born, hardState: .empty,
                firstIndex: LogIndex(1), lastIndex: .zero,
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
        guard let decoded = try? RegionBirth.decode(birth) else {
            throw NodeError(
                code: .corrupted,
                message: "The birth record of region \(born.region) cannot be read.")
        }
        return RegionSeed(
            birth: decoded, descriptor: try descriptor(of: decoded), hardState: found.hardState,
            firstIndex: found.firstIndex,
            lastIndex: found.lastIndex, compactedTerm: found.compactedTerm,
            terms: found.terms, damaged: found.damaged, applied: applied,
            campaignsFirst: false)
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
