// Sees every node at every step and holds the cluster to what Raft promises.
//
//   election safety          one leader per region and term; one vote per peer and term
//   log matching             one entry per region, index and term, whoever holds it, after the same one
//   leader completeness      a new leader's log has every entry that was ever committed
//   state machine safety     all nodes commit the same entry at an index
//   durability               what is committed is durable on a quorum at that moment, and whoever
//                            had it durable has it after every restart, a new region's keys too
//   monotonicity             terms and commits of one process never fall; applied <= committed

import UkehiBase
import UkehiNode
import UkehiRaft

/// The truth about one region's log, as first committed by anybody.
private struct CommittedLog {
    var first = LogIndex(1)
    /// Of each committed entry from `first` on.
    /// `by`: the term in which it was known to be committed; later leaders must have it.
    var entries: [(term: Term, digest: UInt64, by: Term)] = []
    var last: LogIndex { first + UInt64(entries.count) - 1 }

    subscript(index: LogIndex) -> (term: Term, digest: UInt64, by: Term)? {
        guard index >= first, index <= last else { return nil }
        return entries[Int(index - first)]
    }
}

/// What one node has said of one region since its process began, and what is durable on its disk.
private final class PeerRecord {
    var peer = PeerID.none
    var term = Term.zero
    var committed = LogIndex.zero
    var wasLeader = false
    /// Terms of the durable entries from index 1 on.
    var durable: [Term] = []
}

final class ClusterObserver {
    private let world: World
    private let nodeCount: Int
    private(set) var configurations = ConfigurationChecker()
    /// Peers that came to be later than their regions.
    private(set) var newPeers: Set<PeerID> = []
    /// The last peer of each region whose tombstone is durable, by node.
    private var buried: [[RegionID: PeerID]]
    private var committed: [RegionID: CommittedLog] = [:]
    private var leaders: [RegionID: [Term: (node: Int, life: Int)]] = [:]
    /// How often each node has opened a region.
    private var lives: [Int: [RegionID: Int]] = [:]
    private var votes: [VoteKey: PeerID] = [:]
    private var records: [[RegionID: PeerRecord]]
    /// Of peers whose disks were lost.
    private var gone: [RegionID: [PeerRecord]] = [:]
    /// Every entry that anybody held durably, by index: its term, its bytes, the term before it.
    private var held: [RegionID: [LogIndex: [(term: Term, digest: UInt64, previous: Term)]]] = [:]
    private var passes: UInt64 = 0
    /// After so many passes all peers are looked at, not only those that were touched.
    var fullLookEvery: UInt64 = 64
    /// Divisions that nobody asked for, by the first region that came of them.
    private(set) var unaskedSplits: Set<RegionID> = []
    /// Whether somebody asked for a region to come out of another one.
    var isAsked: (RegionID) -> Bool = { _ in true }
    /// Whether the command that names a region was of a past epoch of the one it is to come out of.
    var isVoid: (RegionID) -> Bool = { _ in false }
    /// Whether a node's disk was damaged, so that it may lack what it had.
    var isDamaged: (Int) -> Bool = { _ in false }
    /// What is wrong with a region that one was divided into unasked.
    var judgePart: (RegionDescriptor) -> String? = { _ in nil }
    /// Whether peers that lag may be left behind by the log, and be sent snapshots.
    var mayLeaveBehind = false
    /// Logs that a snapshot has replaced.
    private(set) var replacements = 0
    /// Regions that came out of others.
    private(set) var born: Set<RegionID> = []
    private(set) var elections = 0
    private(set) var committedEntries = 0
    let log: EventLog
    /// A node has become the leader of some region.
    var onElected: (Int) -> Void = { _ in }
    /// Regions of which a recovery's plan says that committed entries may be lost.
    var admittedLosses: Set<RegionID> = []
    /// Nodes that belong to no cluster any more: what they believe is nobody's business.
    var ignored: Set<Int> = []
    /// A recovery has lost so many committed entries of a region.
    var onLoss: (RegionID, Int) -> Void = { _, _ in }
    /// An entry is committed, as nobody had seen before.
    var onCommitted: (RegionID, Entry) -> Void = { _, _ in }

    private struct VoteKey: Hashable {
        var region: RegionID
        var peer: PeerID
        var term: Term
    }

    init(world: World, nodes: Int, log: EventLog) {
        self.world = world
        self.log = log
        nodeCount = nodes
        records = Array(repeating: [:], count: nodes)
        buried = Array(repeating: [:], count: nodes)
    }

    /// The view of one node that its lanes report to.
    func node(_ number: Int) -> any NodeObserver { View(self, number) }

    private final class View: NodeObserver, @unchecked Sendable {
        // Safety: a simulation uses one thread.
        unowned let observer: ClusterObserver
        let number: Int
        init(_ observer: ClusterObserver, _ number: Int) {
            self.observer = observer
            self.number = number
        }
        private var isIgnored: Bool { observer.ignored.contains(number) }
        func opened(_ peer: PeerStatus, term: (LogIndex) -> Term?) {
            if isIgnored { return }
            observer.opened(number, peer, term)
        }
        func closed(region: RegionID, peer: PeerID) {
            observer.records[number][region] = nil
            observer.log.add(
                .members(node: number, words: "closes \(peer)"), region: region.rawValue)
        }
        func buried(region: RegionID, peer: PeerID) {
            observer.buried[number][region] = peer
        }
        func changed(_ descriptor: RegionDescriptor, peer: PeerID, at index: LogIndex) {
            if isIgnored { return }
            observer.log.add(
                .members(
                    node: number,
                    words: "\(peer) applies \(index): \(descriptor.membersInWords)"),
                region: descriptor.region.rawValue)
            observer.configurations.changed(descriptor, at: index).map {
                observer.fail(descriptor.region, "node-\(number + 1), \(peer): \($0)")
            }
        }
        func divided(
            _ parent: RegionDescriptor, into children: [RegionDescriptor], peer: PeerID,
            at index: LogIndex
        ) {
            observer.divided(number, parent, children, peer, index)
        }
        func forced(_ descriptor: RegionDescriptor, peer: PeerID, absent: Set<NodeID>) {
            observer.forced(number, descriptor, peer, absent)
        }
        func lostKeys(region: RegionID) {
            if isIgnored || observer.isDamaged(number) { return }
            observer.fail(
                region, "node-\(number + 1), whose disk is sound, has lost the region's keys")
        }
        func durable(region: RegionID, entries: [Entry]) {
            if isIgnored { return }
            observer.durable(number, region, entries)
        }
        func replaced(_ descriptor: RegionDescriptor, index: LogIndex, term: Term) {
            if isIgnored { return }
            observer.replaced(number, descriptor, index, term)
        }
        func committed(region: RegionID, entries: [Entry], term: Term) {
            if isIgnored { return }
            observer.committed(number, region, entries, by: term)
        }
    }

    private func fail(_ region: RegionID, _ reason: String) {
        world.fail("\(region): \(reason)", region: region.rawValue)
    }

    // MARK: What nodes report

    private func opened(_ node: Int, _ peer: PeerStatus, _ term: (LogIndex) -> Term?) {
        if let gone = buried[node][peer.region], peer.peer <= gone {
            fail(peer.region, "\(peer.peer) is on node-\(node + 1) again, where it was removed")
        }
        let problem =
            peer.awaitsKeys
            ? configurations.openedAhead(peer.descriptor)
            : configurations.opened(peer.descriptor, applied: peer.applied)
        problem.map { fail(peer.region, "node-\(node + 1) came back: \($0)") }
        let record = self.record(node, peer.region)
        record.peer = peer.peer
        if peer.isIntroduced { newPeers.insert(peer.peer) }
        lives[node, default: [:]][peer.region, default: 0] += 1
        // Committed entries that were durable here must have survived, at their place.
        if let truth = committed[peer.region] {
            let upTo = min(truth.last.rawValue, UInt64(record.durable.count))
            var index = max(peer.firstIndex.rawValue, 1)
            while index <= upTo {
                let had = record.durable[Int(index - 1)]
                if truth[LogIndex(index)]?.term == had, term(LogIndex(index)) != had {
                    fail(
                        peer.region,
                        "node-\(node + 1) had entry \(index) of term \(had) durable and lost it")
                }
                index += 1
            }
        }
        if let last = record.durable.last, peer.term < last {
            fail(
                peer.region,
                "node-\(node + 1) came back in term \(peer.term) with entries of term \(last)")
        }
        record.durable = []
        if peer.lastIndex >= peer.firstIndex {
            for index in 1...peer.lastIndex.rawValue {
                // What was compacted was durable and committed.
                record.durable.append(
                    term(LogIndex(index)) ?? committed[peer.region]?[LogIndex(index)]?.term
                        ?? .zero)
            }
        } else {
            for index in 0..<peer.lastIndex.rawValue {
                record.durable.append(
                    term(LogIndex(index + 1)) ?? committed[peer.region]?[LogIndex(index + 1)]?.term
                        ?? .zero)
            }
        }
        record.term = peer.term
        record.committed = peer.committed
        record.wasLeader = false
    }

    /// A region is divided alike wherever it is; the new ones' logs begin as if something had been in them.
    private func divided(
        _ node: Int, _ parent: RegionDescriptor, _ children: [RegionDescriptor], _ peer: PeerID,
        _ index: LogIndex
    ) {
        log.add(
            .members(
                node: node,
                words: "\(peer) is divided at \(index): \(parent.membersInWords), new "
                    + children.map { "\($0.region)" }.joined(separator: " ")),
            region: parent.region.rawValue)
        configurations.divided(parent, into: children, at: index).map {
            fail(parent.region, "node-\(node + 1), \(peer): \($0)")
        }
        if let first = children.first, isVoid(first.region) {
            fail(parent.region, "node-\(node + 1), \(peer): divided by a command of another epoch")
        }
        if let first = children.first, !isAsked(first.region) {
            unaskedSplits.insert(first.region)
            for part in children + [parent] {
                judgePart(part).map { fail(parent.region, "node-\(node + 1), \(peer): \($0)") }
            }
        }
        for child in children where born.insert(child.region).inserted {
            committed[child.region] = CommittedLog(first: SplitRules.firstApplied + 1)
        }
    }

    private func record(_ node: Int, _ region: RegionID) -> PeerRecord {
        if let record = records[node][region] { return record }
        let record = PeerRecord()
        records[node][region] = record
        return record
    }

    private func durable(_ node: Int, _ region: RegionID, _ entries: [Entry]) {
        guard let first = entries.first else { return }
        let start = Int(first.index.rawValue) - 1
        let record = self.record(node, region)
        if record.durable.count > start { record.durable.removeSubrange(start...) }
        if record.durable.count != start {
            return fail(
                region,
                "node-\(node + 1) has \(record.durable.count) entries durable, then \(first.index)"
            )
        }
        for entry in entries {
            checkMatching(node, region, entry, after: record.durable.last ?? .zero)
            record.durable.append(entry.term)
        }
    }

    /// A snapshot is as good as the entries it stands for: they were committed before.
    private func replaced(
        _ node: Int, _ descriptor: RegionDescriptor, _ index: LogIndex, _ term: Term
    ) {
        let region = descriptor.region
        replacements += 1
        configurations.opened(descriptor, applied: index).map {
            fail(region, "node-\(node + 1) took a snapshot: \($0)")
        }
        guard let truth = committed[region],
            truth[index]?.term == term || truth.first == index + 1
        else {
            return fail(
                region,
                "node-\(node + 1) took a snapshot that ends with \(index) of term \(term), which "
                    + "nobody has committed")
        }
        record(node, region).durable =
            (1..<index.rawValue).map { truth[LogIndex($0)]?.term ?? .zero } + [term]
    }

    /// Log matching (Raft §5.3): equal index and term mean equal entries, and equal logs before them.
    private func checkMatching(
        _ node: Int, _ region: RegionID, _ entry: Entry, after previous: Term
    ) {
        let digest = Self.digest(entry)
        let known = held[region]?[entry.index]?.first { $0.term == entry.term }
        guard let known else {
            held[region, default: [:]][entry.index, default: []]
                .append((entry.term, digest, previous))
            return
        }
        if known.digest != digest || known.previous != previous {
            fail(
                region,
                "node-\(node + 1) holds another entry at \(entry.index) of term \(entry.term) than "
                    + "others did")
        }
    }

    private func committed(
        _ node: Int, _ region: RegionID, _ entries: [Entry], by term: Term
    ) {
        var truth = committed.removeValue(forKey: region) ?? CommittedLog()
        defer { committed[region] = truth }
        for entry in entries {
            let digest = Self.digest(entry)
            if let known = truth[entry.index] {
                guard known.term == entry.term, known.digest == digest else {
                    return fail(
                        region,
                        "node-\(node + 1) commits another entry at \(entry.index) than others did: "
                            + "term \(entry.term) instead of \(known.term)")
                }
                continue
            }
            guard entry.index == truth.last + 1 else {
                return fail(
                    region, "node-\(node + 1) commits \(entry.index) after \(truth.last)")
            }
            let holders = (records.compactMap { $0[region] } + (gone[region] ?? [])).compactMap {
                record -> PeerID? in
                let position = Int(entry.index.rawValue) - 1
                return position < record.durable.count && record.durable[position] == entry.term
                    ? record.peer : nil
            }
            guard configurations.isQuorum(Set(holders), of: region, at: entry.index) else {
                return fail(
                    region,
                    "entry \(entry.index) of term \(entry.term) is committed, but durable only on "
                        + "\(holders) of \(configurations.description(of: region))")
            }
            truth.entries.append((entry.term, digest, term))
            committedEntries += 1
            onCommitted(region, entry)
        }
    }

    /// A recovery has a peer lead without the dead: from now on its log is the truth (RULES 74). What was
    /// committed and it has not is lost; the plan has to have said so.
    private func forced(
        _ node: Int, _ descriptor: RegionDescriptor, _ peer: PeerID, _ absent: Set<NodeID>
    ) {
        let region = descriptor.region
        let log = record(node, region).durable
        if var truth = committed[region] {
            var kept = 0
            while kept < truth.entries.count {
                let position = Int((truth.first + UInt64(kept)).rawValue) - 1
                guard position < log.count, log[position] == truth.entries[kept].term else { break }
                kept += 1
            }
            let lost = truth.entries.count - kept
            if lost > 0, !admittedLosses.contains(region) {
                fail(
                    region,
                    "a recovery led by node-\(node + 1) loses \(lost) committed entries, and its plan "
                        + "says that it loses none")
            }
            if lost > 0 {
                truth.entries.removeLast(lost)
                committed[region] = truth
                onLoss(region, lost)
            }
        }
        configurations.forced(
            descriptor, peer, absent: absent, last: LogIndex(UInt64(log.count)))
        self.log.add(
            .members(node: node, words: "\(peer) leads without \(absent.sorted())"),
            region: region.rawValue)
    }

    /// A node's disk is empty now: what it held is gone, and its peers never come back.
    func wiped(_ node: Int) {
        // What it had acknowledged counts, though it is gone: others still have it.
        for (region, record) in records[node] { gone[region, default: []].append(record) }
        records[node] = [:]
        buried[node] = [:]
        lives[node] = [:]
    }

    /// Order-dependent, the same in every process.
    private static func digest(_ entry: Entry) -> UInt64 {
        var hash = TraceHash()
        entry.data.withUnsafeBytes { bytes in
            var at = 0
            while at + 8 <= bytes.count {
                hash.mix(bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                at += 8
            }
            while at < bytes.count {
                hash.mix(UInt64(bytes[at]))
                at += 1
            }
        }
        hash.mix(UInt64(entry.data.count))
        return hash.value
    }

    /// A pass of a node's lane is over.
    func passed(node: Int, _ lane: Lane) {
        guard world.failure == nil, !ignored.contains(node) else { return }
        lane.forEachTouchedPeer { peer, term in passed(node: node, peer, term) }
        passes += 1
        if passes % fullLookEvery == 0 { lookAtAll(node, lane) }
    }

    /// Makes sure that nothing moves unseen: now every peer stands as it was last shown.
    private func lookAtAll(_ node: Int, _ lane: Lane) {
        lane.forEachPeer { peer, _ in
            guard let record = records[node][peer.region] else { return }
            if record.term != peer.term || record.committed != peer.committed
                || record.wasLeader != peer.isLeader || (peer.snapshotsAsked > 0 && !mayLeaveBehind)
            {
                fail(peer.region, "node-\(node + 1) has changed and was not marked as touched")
            }
        }
    }

    /// How one peer stands after a pass.
    func passed(node: Int, _ peer: PeerStatus, _ term: (LogIndex) -> Term?) {
        guard let record = records[node][peer.region] else { return }
        if peer.snapshotsAsked > 0, !mayLeaveBehind {
            fail(peer.region, "node-\(node + 1) has compacted what another peer needs")
        }
        guard
            record.term != peer.term || record.committed != peer.committed
                || record.wasLeader != peer.isLeader
        else { return }
        world.trace.mix(peer.term.rawValue << 32 ^ peer.committed.rawValue)
        if peer.term < record.term {
            fail(peer.region, "node-\(node + 1) went back to term \(peer.term)")
        }
        if peer.committed < record.committed {
            fail(peer.region, "node-\(node + 1) took its commit \(record.committed) back")
        }
        if peer.isLeader, record.wasLeader, record.term == peer.term,
            peer.committed > record.committed, term(peer.committed) != peer.term
        {
            // Raft §5.4.2: what is of an older term is committed with the leader's own, never alone.
            fail(
                peer.region,
                "node-\(node + 1) leads term \(peer.term) and commits \(peer.committed) of "
                    + "another term alone")
        }
        if peer.applied > peer.committed {
            fail(peer.region, "node-\(node + 1) applied more than is committed")
        }
        if peer.isLeader, !record.wasLeader || record.term != peer.term {
            elected(node, peer, term)
        }
        if record.term != peer.term || record.wasLeader != peer.isLeader {
            log.add(
                .state(
                    node: node, term: peer.term.rawValue, isLeader: peer.isLeader,
                    committed: peer.committed.rawValue), region: peer.region.rawValue)
        }
        record.term = peer.term
        record.committed = peer.committed
        record.wasLeader = peer.isLeader
    }

    private func elected(_ node: Int, _ peer: PeerStatus, _ term: (LogIndex) -> Term?) {
        elections += 1
        onElected(node)
        let life = lives[node]?[peer.region] ?? 0
        if let other = leaders[peer.region]?[peer.term], other != (node, life) {
            fail(
                peer.region,
                other.node == node
                    ? "node-\(node + 1) was elected twice in term \(peer.term)"
                    : "node-\(node + 1) and node-\(other.node + 1) both lead term \(peer.term)")
        }
        leaders[peer.region, default: [:]][peer.term] = (node, life)
        // Of an older term votes may have come late: nothing is committed by them any more.
        let isNewest = leaders[peer.region]?.keys.allSatisfy { $0 <= peer.term } ?? true
        if isNewest, !configurations.mayLead(peer.peer, of: peer.region) {
            fail(
                peer.region,
                "\(peer.peer) on node-\(node + 1) leads term \(peer.term) and votes in none of "
                    + configurations.description(of: peer.region))
        }
        guard let truth = committed[peer.region], !truth.entries.isEmpty else { return }
        var index = truth.last
        // The rest follows from log matching, which is checked where entries are committed.
        var checked = 0
        while index >= truth.first, index >= peer.firstIndex, checked < 64 {
            // A paused candidate may learn late that it won, when others have gone on.
            guard let entry = truth[index], entry.by < peer.term else {
                index = LogIndex(index.rawValue - 1)
                continue
            }
            guard term(index) == entry.term else {
                return fail(
                    peer.region,
                    "node-\(node + 1) leads term \(peer.term) without the committed entry \(index)"
                )
            }
            checked += 1
            index = LogIndex(index.rawValue - 1)
        }
    }

    /// A node hands messages to the network.
    func sent(node: Int, _ messages: [RegionMessage]) {
        for position in messages.indices
        where messages[position].message.kind == .requestVoteResponse {
            sent(node: node, messages[position])
        }
    }

    /// A node hands a message to the network.
    func sent(node: Int, _ message: RegionMessage) {
        let vote = message.message
        guard vote.kind == .requestVoteResponse, !vote.reject else { return }
        let key = VoteKey(region: message.region, peer: vote.from, term: vote.term)
        if let other = votes[key], other != vote.to {
            fail(
                message.region,
                "\(vote.from) votes for \(other) and for \(vote.to) in term \(vote.term)")
        }
        votes[key] = vote.to
    }

    /// How far each node's durable log agrees; for a failure's report.
    func committedIndex(of region: RegionID) -> LogIndex { committed[region]?.last ?? .zero }
}
