// Members of regions, as nodes apply them: the same at each index everywhere, and nobody counts who is
// none (RULES 9, 17).

import UkehiBase
import UkehiNode
import UkehiState

/// The configurations of all regions, as first applied by anybody.
struct ConfigurationChecker {
    /// Ascending by index; the first is of the region's beginning.
    private(set) var recoveries = 0
    /// Peers that are not counted any more, since a recovery goes on without them.
    private var absent: [RegionID: Set<PeerID>] = [:]
    /// Peers that lead because a recovery says so, whatever the log that is left says of them.
    private var forced: [RegionID: Set<PeerID>] = [:]
    private var known: [RegionID: [(index: LogIndex, descriptor: RegionDescriptor)]] = [:]

    /// Regions that were opened ahead of the divisions out of which they come, which nobody has applied.
    private var ahead: [RegionID: RegionDescriptor] = [:]

    /// A recovery goes on from a log that ends with `last`, without the peers on absent nodes.
    mutating func forced(
        _ descriptor: RegionDescriptor, _ peer: PeerID, absent: Set<NodeID>, last: LogIndex
    ) {
        recoveries += 1
        forced[descriptor.region, default: []].insert(peer)
        self.absent[descriptor.region, default: []].formUnion(
            descriptor.peers.filter { absent.contains($0.node) }.map(\.peer))
        // What those who are gone have applied beyond it never was.
        known[descriptor.region]?.removeAll { $0.index > last }
        unheard[descriptor.region] = nil
    }

    /// Regions whose newest members came out of a store before anybody was heard to apply the change; by which
    /// entry they came is not known, but that it is behind this one, and not behind where they were found.
    private var unheard: [RegionID: LogIndex] = [:]

    /// How many changes of members there were.
    var changes: Int { known.values.reduce(0) { $0 + $1.count - 1 } - splits }
    /// How many divisions.
    private(set) var splits = 0

    /// Every region as first seen last, ascending.
    var newest: [RegionDescriptor] {
        known.keys.sorted().compactMap { known[$0]?.last?.descriptor }
    }

    /// A peer has applied the change at `index`. Returns what is wrong with that, if anything is.
    mutating func changed(_ descriptor: RegionDescriptor, at index: LogIndex) -> String? {
        let list = known[descriptor.region] ?? []
        if let same = list.first(where: { $0.index == index }) {
            return same.descriptor == descriptor
                ? nil : "other members after entry \(index) than elsewhere"
        }
        if let last = list.last, last.descriptor == descriptor, index <= last.index,
            let before = unheard[descriptor.region], index > before
        {
            unheard[descriptor.region] = nil
            known[descriptor.region]?[list.count - 1].index = index
            return nil
        }
        guard let last = list.last, index > last.index else {
            return "a change at \(index) that nobody else found there"
        }
        guard descriptor.epoch.confVersion == last.descriptor.epoch.confVersion + 1 else {
            return "configuration \(descriptor.epoch) after \(last.descriptor.epoch)"
        }
        if let old = descriptor.peers.first(where: { peer in
            last.descriptor.member(peer.peer) == nil
                && list.contains { $0.descriptor.member(peer.peer) != nil }
        }) {
            return "\(old.peer) was removed and is a member again"
        }
        known[descriptor.region]?.append((index, descriptor))
        return nil
    }

    /// A region was divided by the entry at `index`. Returns what is wrong with that, if anything is.
    mutating func divided(
        _ parent: RegionDescriptor, into children: [RegionDescriptor], at index: LogIndex
    ) -> String? {
        let list = known[parent.region] ?? []
        if let same = list.first(where: { $0.index == index }) {
            return same.descriptor == parent
                ? nil : "another division by entry \(index) than elsewhere"
        }
        guard let last = list.last, index > last.index else {
            return "a division at \(index) that nobody else found there"
        }
        if let problem = RangeCoverage.problem(
            ([parent] + children).map(\.range), of: last.descriptor.range)
        {
            return "divided so that \(problem)"
        }
        if let old = children.first(where: { known[$0.region] != nil }) {
            return "\(old.region) comes out of it and was there before"
        }
        known[parent.region]?.append((index, parent))
        for child in children {
            if let early = ahead.removeValue(forKey: child.region), early != child {
                return "\(child.region) comes out of it otherwise than it was opened"
            }
            known[child.region] = [(SplitRules.firstApplied, child)]
        }
        splits += 1
        return nil
    }

    /// A region was opened ahead of the division out of which it comes. Returns what is wrong with that, if
    /// anything is.
    mutating func openedAhead(_ descriptor: RegionDescriptor) -> String? {
        if let right = known[descriptor.region]?.first?.descriptor ?? ahead[descriptor.region] {
            return right == descriptor ? nil : "ahead of its keys, otherwise than elsewhere"
        }
        ahead[descriptor.region] = descriptor
        return nil
    }

    /// A region was opened with these members. Returns what is wrong with that, if anything is.
    mutating func opened(_ descriptor: RegionDescriptor, applied: LogIndex) -> String? {
        guard let list = known[descriptor.region] else {
            guard applied == .zero else { return "members of which nobody has heard" }
            known[descriptor.region] = [(.zero, descriptor)]
            return nil
        }
        // What came out of another region begins later; who was introduced to it has applied nothing.
        let right = list.last { $0.index <= applied } ?? list.first
        if right?.descriptor != descriptor, isUnheard(descriptor, applied: applied) { return nil }
        return right?.descriptor == descriptor
            ? nil
            : "at entry \(applied) with configuration \(descriptor.epoch) instead of "
                + "\(right.map { "\($0.descriptor.epoch)" } ?? "none")"
    }

    /// Whether a store may have these members though nobody said so: the power was cut after it took the change,
    /// and before the node noticed. Then they are the newest.
    private mutating func isUnheard(_ descriptor: RegionDescriptor, applied: LogIndex) -> Bool {
        guard let last = known[descriptor.region]?.last else { return false }
        let before = unheard[descriptor.region]
        if let before, last.descriptor == descriptor, applied > before {
            known[descriptor.region]?.removeLast()
            known[descriptor.region]?.append((min(last.index, applied), descriptor))
            return true
        }
        guard before == nil, applied > last.index,
            descriptor.epoch.version == last.descriptor.epoch.version,
            descriptor.epoch.confVersion == last.descriptor.epoch.confVersion + 1
        else { return false }
        unheard[descriptor.region] = last.index
        known[descriptor.region]?.append((applied, descriptor))
        return true
    }

    /// By which version of the region the entry at `index` is judged.
    func version(of region: RegionID, at index: LogIndex) -> UInt64? {
        known[region]?.last { $0.index < index }?.descriptor.epoch.version
    }

    /// Those that may be in force where the newest entries are committed: the newest, and the one before
    /// it, since a leader may not have applied the newest yet.
    private func recent(_ region: RegionID) -> ArraySlice<RegionDescriptor> {
        // Of one that was opened ahead, and that nobody has applied, only the first are known.
        let all = known[region]?.map(\.descriptor) ?? ahead[region].map { [$0] } ?? []
        return all.suffix(2)
    }

    /// Whether `holders` are enough to commit the entry at `index`.
    func isQuorum(_ holders: Set<PeerID>, of region: RegionID, at index: LogIndex) -> Bool {
        let absent = absent[region] ?? []
        return recent(region).contains { descriptor in
            [PeerRoles.voter, .outgoingVoter].allSatisfy { half in
                let voters = descriptor.peers.filter {
                    $0.roles.contains(half) && !absent.contains($0.peer)
                }
                let holding = voters.count { holders.contains($0.peer) }
                return voters.isEmpty || holding > voters.count / 2
            }
        }
    }

    func mayLead(_ peer: PeerID, of region: RegionID) -> Bool {
        recent(region).contains { $0.member(peer)?.isVoter ?? false }
            || forced[region]?.contains(peer) ?? false
    }

    func description(of region: RegionID) -> String {
        recent(region).map(\.membersInWords).joined(separator: ", ")
    }
}
