// Why a region is not divided, told to whoever asked for it (RULES 17, 22, 23, 26, 30).

public import UkehiBase
import UkehiState

/// Why a region is not divided. Nothing was changed.
public enum SplitRefusal: Error, Hashable, Sendable {
    /// The node has no peer of the region: ask its leader.
    case unknownRegion
    /// The node does not lead the region: ask its leader.
    case notLeader
    /// The system region stays whole.
    case system
    /// The region's state machine cannot be divided.
    case unsupported
    /// Members change, or the region is being divided already: ask again later.
    case pending
    /// The leadership is being handed over: ask again in a moment.
    case transferring
    /// Too much of the region is not committed: ask again in a moment.
    case overloaded
    /// The region is not as the command believes (RULES 22): look at it again.
    case staleEpoch
    /// The key is not in the region, or is its beginning.
    case keyOutside
    /// Keys ascend, each of them once.
    case keysUnordered
    /// More new regions than come out of one at a time.
    case tooMany
    /// One half would have no key: choose one between those that are there.
    case emptyHalf
    /// A region of this id exists (RULES 17).
    case regionExists(RegionID)
    /// Ids, peers or keys that no region can have.
    case malformed
    /// No ids could be had from the system region: ask again when that has a leader.
    case noIDs
}

extension SplitRefusal: CustomStringConvertible {
    public var description: String {
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
        case .noIDs: "The system region has given no ids. Ask again when it has a leader."
        }
    }

    /// Whether the same may be possible a moment later.
    public var passes: Bool {
        switch self {
        case .pending, .transferring, .overloaded, .noIDs: true
        default: false
        }
    }
}

extension SplitRefusal {
    /// On the wire; numbers never change their meaning. Beside it goes the region that exists, if it names one.
    package var code: UInt8 {
        switch self {
        case .unknownRegion: 1
        case .notLeader: 2
        case .system: 3
        case .unsupported: 4
        case .pending: 5
        case .transferring: 6
        case .overloaded: 7
        case .staleEpoch: 8
        case .keyOutside: 9
        case .keysUnordered: 10
        case .tooMany: 11
        case .emptyHalf: 12
        case .regionExists: 13
        case .malformed: 14
        case .noIDs: 15
        }
    }

    /// The region that it names, if any.
    package var existing: RegionID? {
        if case .regionExists(let region) = self { region } else { nil }
    }

    /// All of them; the one that names a region names this.
    package static func all(existing region: RegionID) -> [SplitRefusal] {
        [
            .unknownRegion, .notLeader, .system, .unsupported, .pending, .transferring, .overloaded,
            .staleEpoch, .keyOutside, .keysUnordered, .tooMany, .emptyHalf, .regionExists(region),
            .malformed, .noIDs,
        ]
    }

    package init?(code: UInt8, existing region: RegionID) {
        guard let found = Self.all(existing: region).first(where: { $0.code == code }) else {
            return nil
        }
        self = found
    }
}
