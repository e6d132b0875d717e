// What a split makes of a region, and when it is refused (RULES 17, 22, 23, 26, 27). Pure.

package import UkehiBase
import UkehiRaft
package import UkehiState

package enum SplitRules {
    /// A new region's log begins as if so much had been applied, so that a peer with an empty log needs a
    /// snapshot (RULES 26).
    package static let firstApplied = LogIndex(5)
    package static let firstAppliedTerm = Term(5)
    /// Every member begins in this term, with its vote for the first leader: nobody else can win it.
    package static let firstTerm = Term(6)
}

extension RegionDescriptor {
    /// The region and the new ones, ascending, as they are after the command.
    package func splitting(
        by command: SplitCommand, epoch believed: RegionEpoch
    ) throws(SplitRefusal) -> (parent: RegionDescriptor, children: [RegionDescriptor]) {
        guard !isSystem else { throw .system }
        // Both versions: peers are given for the members as they are (RULES 22).
        #if BugBank
            let judgesEpoch = !PlantedBug.splitIgnoresEpoch.isPlanted
        #else
            let judgesEpoch = true
        #endif
        guard epoch == believed || !judgesEpoch else { throw .staleEpoch }
        guard !isJoint else { throw .pending }
        guard !command.parts.isEmpty, command.parts.count <= SplitCommand.maxParts else {
            throw .tooMany
        }
        let version = epoch.version + UInt64(command.parts.count)
        guard version < Self.numberLimit else { throw .malformed }
        var parent = self
        parent.epoch.version = version
        var children: [RegionDescriptor] = []
        var start = range.lower
        for part in command.parts {
            guard part.end > range.lower, range.contains(part.end) else { throw .keyOutside }
            guard part.end > start else { throw .keysUnordered }
            // What the command's own form cannot hold must not come to be in a log: nobody could apply it.
            guard part.end.count <= CommandLimits.maxKeyBytes else { throw .malformed }
            // Ids are given ascending: one that is not above the region's own was there before it.
            guard part.region > region, part.region > .system,
                !children.contains(where: { $0.region == part.region }),
                part.peers.count == peers.count, Set(part.peers).count == part.peers.count,
                part.region.rawValue < Self.numberLimit,
                part.peers.allSatisfy({ $0.isValid && $0.rawValue < Self.numberLimit })
            else { throw .malformed }
            let members = zip(peers, part.peers).map {
                PeerDescriptor(peer: $1, node: $0.node, roles: $0.roles)
            }.sorted { $0.peer < $1.peer }
            guard members.first(where: { $0.peer == part.leader })?.roles == .voter else {
                throw .malformed
            }
            children.append(
                RegionDescriptor(
                    region: part.region, isSystem: false,
                    range: KeyRange(lower: start, upper: part.end),
                    epoch: RegionEpoch(confVersion: epoch.confVersion, version: version),
                    peers: members))
            start = part.end
        }
        parent.range = KeyRange(lower: start, upper: range.upper)
        return (parent, children)
    }
}
