import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode
@testable import UkehiSimulation

/// Each checker is shown something wrong that it must find, beside what is right.
@Suite("Checkers find what is wrong")
struct CheckerTests {
    // MARK: Raft's properties

    private static let region = RegionID(2)
    private static let descriptor = RegionDescriptor(
        region: region, isSystem: false, range: .all,
        epoch: RegionEpoch(confVersion: 1, version: 1),
        peers: (1...3).map { PeerDescriptor(peer: PeerID($0), node: NodeID($0)) })

    /// Three nodes that say what the test makes them say.
    private final class Witness {
        let world = World()
        let observer: ClusterObserver
        init() { observer = ClusterObserver(world: world, nodes: 3, log: EventLog(world)) }

        func status(
            _ term: UInt64 = 1, leads: Bool = false, committed: UInt64 = 0, applied: UInt64 = 0,
            last: UInt64 = 0
        ) -> PeerStatus {
            PeerStatus(
                region: CheckerTests.region, peer: PeerID(1), isIntroduced: false,
                awaitsKeys: false,
                descriptor: CheckerTests.descriptor, term: Term(term), isLeader: leads,
                leader: .none, committed: LogIndex(committed), applied: LogIndex(applied),
                firstIndex: LogIndex(1), lastIndex: LogIndex(last), snapshotsAsked: 0)
        }
        func open(_ node: Int, _ status: PeerStatus? = nil, terms: [UInt64] = []) {
            var status = status ?? self.status()
            status.peer = PeerID(UInt64(node + 1))
            observer.node(node).opened(status) { index in
                terms.indices.contains(Int(index.rawValue) - 1)
                    ? Term(terms[Int(index.rawValue) - 1]) : nil
            }
        }
        func openAll() { for node in 0..<3 { open(node) } }
        func hold(_ node: Int, _ entries: Entry...) {
            observer.node(node).durable(region: CheckerTests.region, entries: entries)
        }
        func commit(_ node: Int, _ entry: Entry, in term: UInt64 = 1) {
            observer.node(node).committed(
                region: CheckerTests.region, entries: [entry], term: Term(term))
        }
        func pass(_ node: Int, _ status: PeerStatus, terms: [UInt64] = []) {
            var status = status
            status.peer = PeerID(UInt64(node + 1))
            observer.passed(node: node, status) { index in
                terms.indices.contains(Int(index.rawValue) - 1)
                    ? Term(terms[Int(index.rawValue) - 1]) : nil
            }
        }
        func vote(_ peer: UInt64, for candidate: UInt64, _ term: UInt64) {
            observer.sent(
                node: 0,
                RegionMessage(
                    region: CheckerTests.region, epoch: RegionEpoch(confVersion: 1, version: 1),
                    message: Message(
                        kind: .requestVoteResponse, to: PeerID(candidate), from: PeerID(peer),
                        term: Term(term))))
        }
    }

    private func entry(_ index: UInt64, _ term: UInt64, _ data: Bytes = "x") -> Entry {
        Entry(term: Term(term), index: LogIndex(index), kind: .normal, data: data)
    }

    private func reason(_ body: (Witness) -> Void) -> String {
        let witness = Witness()
        witness.openAll()
        body(witness)
        return witness.world.failure?.reason ?? ""
    }

    @Test("Raft: what is right is not complained of")
    func raftSound() {
        let said = reason { witness in
            for node in 0..<3 { witness.hold(node, entry(1, 1), entry(2, 1)) }
            witness.vote(7, for: 8, 1)
            witness.vote(7, for: 8, 1)
            witness.pass(0, witness.status(1, leads: true), terms: [1, 1])
            for node in 0..<3 { witness.commit(node, entry(1, 1)) }
            witness.pass(
                0, witness.status(1, leads: true, committed: 1, applied: 1), terms: [1, 1])
            // An entry that nobody committed is replaced.
            witness.hold(2, entry(2, 2, "y"))
            witness.pass(1, witness.status(2, leads: true), terms: [1, 1])
        }
        #expect(said.isEmpty, "\(said)")
    }

    @Test("Raft: election safety")
    func elections() {
        #expect(
            reason {
                $0.pass(0, $0.status(3, leads: true))
                $0.pass(1, $0.status(3, leads: true))
            }.contains("both lead term 3"))
        #expect(
            reason {
                $0.pass(0, $0.status(3, leads: true))
                $0.open(0, $0.status(3))
                $0.pass(0, $0.status(3, leads: true))
            }.contains("elected twice"))
        #expect(
            reason {
                $0.vote(7, for: 8, 4)
                $0.vote(7, for: 9, 4)
            }.contains("votes for"))
    }

    @Test("Raft: log matching")
    func matching() {
        #expect(
            reason {
                $0.hold(0, entry(1, 1, "a"))
                $0.hold(1, entry(1, 1, "b"))
            }.contains("holds another entry"))
        #expect(
            reason {
                $0.hold(0, entry(1, 1), entry(2, 3))
                $0.hold(1, entry(1, 2), entry(2, 3))
            }.contains("holds another entry"))
        #expect(reason { $0.hold(0, entry(2, 1)) }.contains("entries durable, then"))
    }

    @Test("Raft: state machine safety, and committed means durable on a quorum")
    func commits() {
        #expect(
            reason {
                $0.hold(0, entry(1, 1))
                $0.commit(0, entry(1, 1))
            }.contains("durable only on [p1]"))
        #expect(
            reason {
                for node in 0..<3 { $0.hold(node, entry(1, 1)) }
                $0.commit(0, entry(1, 1))
                $0.commit(1, entry(1, 1, "z"))
            }.contains("commits another entry"))
        #expect(
            reason {
                for node in 0..<3 { $0.hold(node, entry(1, 1), entry(2, 1)) }
                $0.commit(0, entry(2, 1))
            }.contains("commits 2 after 0"))
    }

    @Test("Raft: leader completeness, and nothing durable is lost at a restart")
    func completeness() {
        func committed(_ witness: Witness) {
            for node in 0..<2 { witness.hold(node, entry(1, 1)) }
            witness.commit(0, entry(1, 1))
        }
        #expect(
            reason {
                committed($0)
                $0.pass(2, $0.status(2, leads: true))
            }.contains("without the committed entry 1"))
        #expect(
            reason {
                committed($0)
                $0.open(0, $0.status(1, last: 0))
            }.contains("durable and lost it"))
        #expect(
            reason {
                $0.hold(0, entry(1, 5))
                $0.open(0, $0.status(4, last: 1), terms: [5])
            }.contains("came back in term 4"))
    }

    @Test("Raft: what never goes back")
    func monotonicity() {
        #expect(
            reason {
                $0.pass(0, $0.status(5))
                $0.pass(0, $0.status(4))
            }.contains("went back to term"))
        #expect(
            reason {
                $0.pass(0, $0.status(1, committed: 3))
                $0.pass(0, $0.status(1, committed: 2))
            }.contains("took its commit"))
        #expect(
            reason { $0.pass(0, $0.status(1, committed: 1, applied: 2)) }.contains("applied more"))
        #expect(
            reason {
                $0.pass(0, $0.status(4, leads: true))
                $0.pass(0, $0.status(4, leads: true, committed: 1), terms: [2])
            }.contains("another term alone"))
    }

    // MARK: Replicas, ranges, clients

    @Test("replicas that differ at one index are found, others are not compared")
    func digests() {
        func digest(_ applied: UInt64, _ low: UInt64) -> RegionDigest {
            RegionDigest(region: RegionID(2), applied: LogIndex(applied), high: 1, low: low)
        }
        var checker = DigestChecker()
        #expect(checker.take(digest(5, 1), node: 0) == nil)
        #expect(checker.take(digest(6, 2), node: 1) == nil)
        #expect(checker.take(digest(5, 1), node: 2) == nil)
        #expect(checker.take(digest(6, 3), node: 2) != nil)
    }

    @Test("every key is owned once")
    func coverage() {
        func range(_ lower: Bytes, _ upper: Bytes) -> KeyRange {
            KeyRange(lower: lower, upper: upper)
        }
        #expect(RangeCoverage.problem([range("m", ""), range("", "m")]) == nil)
        #expect(RangeCoverage.problem([.all]) == nil)
        #expect(RangeCoverage.problem([]) != nil)
        #expect(RangeCoverage.problem([range("a", "")]) != nil)
        #expect(RangeCoverage.problem([range("", "m")]) != nil)
        #expect(RangeCoverage.problem([range("", "g"), range("h", "")]) != nil)
        #expect(RangeCoverage.problem([range("", "h"), range("g", "")]) != nil)
        #expect(RangeCoverage.problem([range("", "m"), range("", "m"), range("m", "")]) != nil)
        #expect(RangeCoverage.problem([.all, range("g", "h")]) != nil)
    }

    @Test("an acknowledged write that is gone is called lost")
    func lostWrites() {
        typealias Operation = HistoryOperation
        func put(_ value: UInt64, _ call: UInt64, _ ret: UInt64?) -> Operation {
            Operation(
                client: 0, action: .put(key: 0, value: value), call: call, ret: ret,
                outcome: ret == nil ? .unknown : .done)
        }
        func get(_ found: UInt64?, _ call: UInt64) -> Operation {
            Operation(
                client: 1, action: .get(key: 0), call: call, ret: call + 1, outcome: .found(found))
        }
        func delete(_ call: UInt64, _ ret: UInt64?) -> Operation {
            Operation(
                client: 2, action: .delete(key: 0), call: call, ret: ret,
                outcome: ret == nil ? .unknown : .done)
        }
        func problem(_ history: [Operation]) -> String? { AcknowledgedWrites.problem(history) }
        #expect(problem([put(1, 0, 5), get(1, 6)]) == nil)
        #expect(problem([put(1, 0, 5), put(2, 3, nil), get(1, 6)]) == nil)
        #expect(problem([put(1, 0, nil), put(2, 10, 15), get(1, 20)]) == nil)
        #expect(problem([put(1, 0, 5), delete(7, nil), get(nil, 20)]) == nil)
        #expect(problem([get(nil, 6)]) == nil)
        #expect(problem([put(1, 0, 5), get(nil, 6)])?.contains("shows nothing") == true)
        #expect(problem([put(1, 0, 5), put(2, 6, 9), get(1, 10)])?.contains("write of 2") == true)
        #expect(problem([put(1, 0, 5), delete(6, 9), get(1, 10)])?.contains("delete") == true)
        #expect(problem([get(9, 10)])?.contains("nobody wrote") == true)
    }

    @Test("a key's version never goes back")
    func versions() {
        typealias Operation = HistoryOperation
        func write(_ version: UInt64?, _ call: UInt64, _ ret: UInt64, key: Int = 0) -> Operation {
            var operation = Operation(
                client: 0, action: .put(key: key, value: call), call: call, ret: ret, outcome: .done
            )
            operation.version = version
            return operation
        }
        func read(_ version: UInt64?, _ call: UInt64) -> Operation {
            var operation = Operation(
                client: 1, action: .get(key: 0), call: call, ret: call + 1,
                outcome: .found(version))
            operation.version = version
            return operation
        }
        func problem(_ history: [Operation]) -> String? { Versions.problem(history) }
        #expect(problem([write(1, 0, 5), read(1, 6), write(7, 8, 9), read(7, 10)]) == nil)
        // At the same time anything may be first, and what nobody told is no evidence.
        #expect(problem([write(2, 0, 5), write(1, 3, 9), read(2, 20)]) == nil)
        #expect(problem([write(5, 0, 5), read(nil, 6), write(nil, 8, 9)]) == nil)
        #expect(problem([write(5, 0, 5), write(3, 6, 9, key: 1)]) == nil)
        #expect(problem([write(5, 0, 5), read(4, 6)])?.contains("then 4 was read") == true)
        #expect(problem([read(5, 0), write(5, 6, 9)])?.contains("then 5 was written") == true)
        #expect(problem([write(5, 0, 5), write(1, 6, 9)])?.contains("then 1 was written") == true)
        #expect(problem([write(5, 0, 9), write(5, 3, 12)])?.contains("the same version") == true)
    }

    @Test("rejected is never done, unknown once at most, answered is in the log")
    func outcomes() throws {
        func write(_ value: UInt64, at index: UInt64) throws -> Entry {
            var packer = EntryPacker()
            packer.begin(epoch: RegionEpoch(confVersion: 1, version: 1), time: 1)
            packer.append(
                try Command.put(key: "k", value: SimulatedValue.bytes(value)).encoded())
            packer.append(
                try Command.compareAndSet(
                    key: "k", expected: .absent, value: SimulatedValue.bytes(value + 1000)
                ).encoded())
            return entry(index, 1, packer.finish())
        }
        let region = RegionID(2)
        var checker = OutcomeChecker()
        #expect(checker.committed(try write(1, at: 1), in: region) == nil)
        #expect(checker.answered(1, isVoid: { _ in false }) == nil)
        #expect(checker.answered(1001, isVoid: { _ in false }) == nil)
        #expect(checker.answered(2, isVoid: { _ in false })?.contains("committed nowhere") == true)
        // A retry that nobody asked for.
        #expect(checker.committed(try write(1, at: 2), in: region)?.contains("twice") == true)
        #expect(checker.rejected(5, isVoid: { _ in false }) == nil)
        #expect(checker.committed(try write(5, at: 3), in: region)?.contains("rejected") == true)
        #expect(checker.rejected(1001, isVoid: { _ in false })?.contains("then rejected") == true)
        // Of another epoch than its region: nothing was carried out.
        #expect(checker.committed(try write(7, at: 4), in: region) == nil)
        #expect(checker.rejected(7, isVoid: { $0.index == LogIndex(4) }) == nil)
        #expect(checker.answered(1007, isVoid: { _ in true })?.contains("another version") == true)
    }

    // MARK: The log

    @Test("a log that is not what its disk holds is found")
    func logs() throws {
        var options = SwarmOptions(seed: 11, scenario: .calm)
        options.nodes = 3
        options.rarePercent = 0
        options.compactionInterval = 100_000
        options.clockDriftPerMillion = [0, 0, 0]
        let cluster = SimulatedCluster(seed: 11, options: options, state: .keyValue)
        try cluster.run(milliseconds: 5000)
        for value in 1...20 as ClosedRange<UInt64> {
            _ = try cluster.write(.put(key: "a", value: SimulatedValue.bytes(value)))
        }
        try cluster.run(milliseconds: 2000)
        let node = cluster.nodes[0]
        let core = try #require(node.core)
        var peers: [PeerStatus] = []
        node.lane?.forEachPeer { peer, _ in peers.append(peer) }
        #expect(LogAuditor.problem(on: node.disk, mayRefuse: false) == nil)
        #expect(LogAuditor.problem(of: core.log, peers: peers, on: node.disk) == nil)

        // The log believes to hold one entry more, one less, or what another disk holds.
        for change in [1, -1] as [Int64] {
            var wrong = peers
            let last = Int64(wrong[0].lastIndex.rawValue) + change
            wrong[0].lastIndex = LogIndex(UInt64(last))
            #expect(LogAuditor.problem(of: core.log, peers: wrong, on: node.disk) != nil)
        }
        cluster.setIsolated(true, node: 0)
        let before = node.disk.copy()
        for value in 21...30 as ClosedRange<UInt64> {
            _ = try cluster.write(.put(key: "a", value: SimulatedValue.bytes(value)))
        }
        try cluster.run(milliseconds: 1000)
        let ahead = cluster.nodes[1]
        var aheadPeers: [PeerStatus] = []
        ahead.lane?.forEachPeer { peer, _ in aheadPeers.append(peer) }
        let aheadLog = try #require(ahead.core).log
        #expect(LogAuditor.problem(of: aheadLog, peers: aheadPeers, on: before) != nil)

        // A disk that changed what was acknowledged cannot be opened, which is an error unless expected.
        let rotten = node.disk.copy()
        // The first of them may be dead, and wait for its next life.
        for name in try rotten.list("data/wal") where name.hasSuffix(".wal") {
            rotten.damage("data/wal/" + name, at: 8192 + 100, with: [0xff, 0xfe, 0xfd])
        }
        #expect(LogAuditor.problem(on: rotten, mayRefuse: false) != nil)
        #expect(LogAuditor.problem(on: rotten, mayRefuse: true) == nil)
    }

    // MARK: Members

    /// Configurations of the region after its first one.
    private static func changed(
        _ confVersion: UInt64, _ change: (inout RegionDescriptor) -> Void
    ) -> RegionDescriptor {
        var next = descriptor
        next.epoch.confVersion = confVersion
        change(&next)
        return next
    }

    @Test("members: the same at each index, and one step after the other")
    func configurations() {
        let without = Self.changed(2) { $0.peers.removeLast() }
        func checker() -> ConfigurationChecker {
            var checker = ConfigurationChecker()
            #expect(checker.opened(Self.descriptor, applied: .zero) == nil)
            #expect(checker.changed(without, at: LogIndex(5)) == nil)
            return checker
        }
        var sound = checker()
        #expect(sound.changed(without, at: LogIndex(5)) == nil)
        #expect(sound.opened(Self.descriptor, applied: LogIndex(4)) == nil)
        #expect(sound.opened(without, applied: LogIndex(5)) == nil)
        var other = checker()
        #expect(other.changed(Self.changed(2) { $0.peers.removeFirst() }, at: LogIndex(5)) != nil)
        #expect(other.changed(Self.changed(3) { _ in }, at: LogIndex(4)) != nil)
        #expect(other.changed(Self.changed(4) { $0.peers.removeLast() }, at: LogIndex(9)) != nil)
        #expect(other.changed(Self.changed(3) { _ in }, at: LogIndex(9))?.contains("again") == true)
        // A restart with the applied index of one and the members of another.
        #expect(other.opened(Self.descriptor, applied: LogIndex(5)) != nil)
        #expect(other.opened(without, applied: LogIndex(4)) != nil)
    }

    @Test(
        "members: a store may have taken a change of which nobody was heard before the power went")
    func unheardChange() {
        let without = Self.changed(2) { $0.peers.removeLast() }
        func checker() -> ConfigurationChecker {
            var checker = ConfigurationChecker()
            #expect(checker.opened(Self.descriptor, applied: .zero) == nil)
            #expect(checker.opened(without, applied: LogIndex(9)) == nil)
            return checker
        }
        var sound = checker()
        #expect(sound.opened(without, applied: LogIndex(7)) == nil)
        #expect(sound.changed(without, at: LogIndex(5)) == nil)
        #expect(sound.opened(Self.descriptor, applied: LogIndex(4)) == nil)
        #expect(sound.opened(Self.descriptor, applied: LogIndex(5)) != nil)
        for wrong in [Self.changed(2) { $0.peers.removeFirst() }, Self.changed(3) { _ in }] {
            var other = checker()
            #expect(other.changed(wrong, at: LogIndex(5)) != nil)
            #expect(other.opened(wrong, applied: LogIndex(9)) != nil)
        }
        // It is not known where, but no further than it was found, and not before the one before.
        var late = checker()
        #expect(late.changed(without, at: LogIndex(10)) != nil)
        var leap = ConfigurationChecker()
        #expect(leap.opened(Self.descriptor, applied: .zero) == nil)
        #expect(leap.opened(Self.changed(3) { _ in }, applied: LogIndex(9)) != nil)
    }

    @Test("members: who was removed neither counts nor leads")
    func removedPeers() {
        let without = Self.changed(2) { $0.peers.removeLast() }
        let still = Self.changed(3) { $0.peers.removeLast() }
        func witness() -> Witness {
            let witness = Witness()
            witness.openAll()
            for (place, descriptor) in [without, still].enumerated() {
                witness.observer.node(0).changed(
                    descriptor, peer: PeerID(1), at: LogIndex(UInt64(place) + 1))
            }
            for node in [0, 2] { witness.hold(node, entry(1, 1), entry(2, 1)) }
            return witness
        }
        let counted = witness()
        counted.commit(0, entry(1, 1))
        #expect(counted.world.failure?.reason.contains("durable only on") == true)
        let sound = witness()
        sound.hold(1, entry(1, 1))
        sound.commit(0, entry(1, 1))
        #expect(sound.world.failure == nil)
        let led = witness()
        led.pass(2, led.status(2, leads: true, last: 2), terms: [1, 1])
        #expect(led.world.failure?.reason.contains("votes in none") == true)
    }

    @Test("members: who was removed does not come back")
    func buriedPeers() {
        let witness = Witness()
        witness.openAll()
        witness.observer.node(1).closed(region: Self.region, peer: PeerID(2))
        witness.observer.node(1).buried(region: Self.region, peer: PeerID(2))
        #expect(witness.world.failure == nil)
        witness.open(1)
        #expect(witness.world.failure?.reason.contains("again, where it was removed") == true)
    }
}
