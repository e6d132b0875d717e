// Ranges that were lost with the dead come to be again, empty, because an operator says so (RULES 74).
//
//   ordered of whoever leads the system region, after everything else has a leader again
//     ids from the allocator ──▶ the next registry, compare and set: of two such orders one is carried out
//     ──▶ births, durable ──▶ regions of one peer here, which lead themselves; members follow as any do
//
// A crash before the births leaves nothing but used ids, and the same plan again. What the range held is gone:
// the log says so, at every such order.

import Logging
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiState

extension NodeCore {
    /// Why ranges are not created here.
    func fault(ofCreating order: RecoveryOrder, _ registry: NodeRegistry) -> String? {
        guard order.leads.isEmpty else { return "Ranges are created when all else has a leader." }
        guard isLeader else { return "This node does not lead the system region." }
        guard order.registry == registry else {
            return "The cluster's nodes have changed since the plan was made. Make it anew."
        }
        let own = state.withLock { $0.descriptors }
        for creation in order.creates {
            if let region = own.first(where: { !$0.isSystem && $0.range.overlaps(creation.range) })
            {
                return
                    "Region \(region.region.rawValue) has some of these keys. Make the plan anew."
            }
        }
        return nil
    }

    /// Carries it out. On the boot worker; `done` gets why it came to nothing.
    func create(_ order: RecoveryOrder, _ done: @escaping @Sendable (String?) -> Void) {
        guard let node = nodeID else { return done("The node is not part of a cluster yet.") }
        let isBeingCleared = state.withLock { state in
            state.clearing.contains { region, range in
                region != .system && order.creates.contains { $0.range.overlaps(range) }
            }
        }
        guard !isBeingCleared else {
            return done("What a peer that is gone held of these keys is still being removed.")
        }
        allocateIDs(2 * order.creates.count) { [self] result in
            guard case .success(let first) = result else {
                return done("The system region gave no ids. Ask again.")
            }
            var next = order.registry
            next.version += 1
            write(next, over: order.registry) { [self] isWritten in
                guard isWritten else {
                    return done("The cluster's nodes have changed meanwhile. Make the plan anew.")
                }
                for (position, creation) in order.creates.enumerated() {
                    let id = first + 2 * UInt64(position)
                    bear(creation, as: RegionID(id), PeerID(id + 1), on: node)
                }
                done(nil)
            }
        }
    }

    private func bear(
        _ creation: RecoveryOrder.Creation, as region: RegionID, _ peer: PeerID, on node: NodeID
    ) {
        let descriptor = RegionDescriptor(
            region: region, isSystem: false, range: creation.range,
            epoch: RegionEpoch(confVersion: 1, version: creation.version),
            peers: [PeerDescriptor(peer: peer, node: node, roles: .voter)])
        logger.critical(
            "a range that was lost is created anew, empty: what it held is gone",
            metadata: ["region": "\(region)"])
        lanes[lane(of: region)].post(.bear(RegionBirth(origin: descriptor)))
    }
}
