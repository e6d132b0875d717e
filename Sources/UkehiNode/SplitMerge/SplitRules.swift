// What a split makes of a region, and when it is refused (RULES 17, 22, 23, 26, 27). Pure.

package import UkehiBase
import UkehiRaft
package import UkehiState

/// Why a region is not divided. Nothing was changed.
package enum SplitRefusal: Error, Hashable, Sendable {
    case unknownRegion
    case notLeader
    /// The system region stays whole.
    case system
    /// The region's state machine cannot be divided.
    case unsupported
    /// Members change, or the region is being divided already: ask again later.
    case pending
    case transferring
    case overloaded
    /// The region is not as the command believes (RULES 22).
    case staleEpoch
    /// The key is not in the region, or is its beginning.
    case keyOutside
    /// Keys ascend, each of them once.
    case keysUnordered
    case tooMany
    /// One half would have no key.
    case emptyHalf
    /// A region of this id exists (RULES 17).
    case regionExists(RegionID)
    /// Ids or peers that no region can have.
    case malformed
    /// No ids could be had from the system region.
    case noIDs
}

extension SplitRefusal: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unknownRegion: "This node has no peer of the region. Ask its leader."
        case .notLeader: "This node does not lead the region. Ask its leader."
        case .system: "The system region is not divided."
        case .unsupported: "The region's state machine cannot be divided."
        case .pending:
            "The region's members change, or it is being divided. Ask again in a moment."
        case .transferring: "The region's leadership is being handed over. Ask again in a moment."
        case .overloaded: "The region has too much that is not committed. Ask again in a moment."
        case .staleEpoch: "The region has changed meanwhile. Look at it again."
        case .keyOutside:
            "The key does not divide the region: it lies outside, or is where the region begins."
        case .keysUnordered: "The keys do not ascend, or one is there twice."
        case .tooMany: "At most \(SplitCommand.maxParts) new regions come out of one at a time."
        case .emptyHalf:
            "One of the parts would have no key. Choose a key between those that are there."
        case .regionExists(let region): "There is a region \(region) already."
        case .malformed: "The command names ids, peers or keys that no region can have."
        case .noIDs:
            "The system region has given no ids. Ask again when it has a leader."
        }
    }

    /// Whether the same may be possible a moment later.
    package var passes: Bool {
        switch self {
        case .pending, .transferring, .overloaded, .noIDs: true
        default: false
        }
    }
}

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
