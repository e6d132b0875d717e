import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("A cluster of nodes, driven by hand")
struct ClusterTests {
    private func value(_ reply: Reply?) -> Bytes? {
        if case .value(let value)?? = reply.map({ Optional($0) }) { value?.value } else { nil }
    }

    @Test("one node: writes, reads, and has everything after a restart")
    func single() throws {
        let cluster = TestCluster(nodes: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 2000)
        for number in 0..<100 {
            let reply = try cluster.write(
                .put(key: Bytes("key\(number)"), value: Bytes("v\(number)")))
            guard case .command(.applied)? = reply else {
                Issue.record("write \(number): \(String(describing: reply))")
                return
            }
        }
        cluster.crash(0, seed: 5)
        try cluster.start(0)
        cluster.pass(milliseconds: 3000)
        for number in 0..<100 {
            #expect(value(cluster.read(Bytes("key\(number)"), at: 0)) == Bytes("v\(number)"))
        }
        #expect(cluster.failures.isEmpty)
    }

    @Test("one node: the first read after a restart sees the last acknowledged write (RULES 52)")
    func firstReadAfterRestart() throws {
        let cluster = TestCluster(nodes: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        var served = 0
        for round in 0..<20 {
            guard
                case .command(.applied)? = try cluster.write(
                    .put(key: "k", value: Bytes("\(round)")))
            else {
                Issue.record("round \(round) did not write")
                return
            }
            cluster.crash(0, seed: UInt64(round))
            try cluster.start(0)
            var tags: [UInt64] = []
            let core = try #require(cluster.members[0].core)
            for _ in 0..<60 {
                // One step of the log and one pass at a time: some read comes between the vote that
                // is durable and the term's first entry that is not.
                cluster.clock.advance(milliseconds: 50)
                cluster.members[0].executor.ticking?.tick()
                if let work = core.log.takeWork() { core.log.perform(work) }
                core.log.prepareStep()
                while let lane = cluster.board.next() { lane.runPass() }
                tags.append(cluster.submit(0, .get(.linearizable), key: "k"))
                while let lane = cluster.board.next() { lane.runPass() }
            }
            cluster.pass(milliseconds: 1000)
            for tag in tags {
                if case .value(let found)? = cluster.sink.replies[tag] {
                    #expect(found?.value == Bytes("\(round)"), "round \(round): a stale read")
                    served += 1
                }
            }
        }
        #expect(served > 100)
    }

    @Test("stopping answers every waiting client, those that come later too")
    func stopAnswers() async throws {
        let cluster = TestCluster(nodes: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        let core = try #require(cluster.members[0].core)
        var tags: [UInt64] = []
        func submitSome() throws {
            for number in 0..<20 {
                let record = try Command.put(key: Bytes("k\(number)"), value: "v").encoded()
                tags.append(
                    cluster.submit(0, .write(record: record), key: Bytes("k\(number)")))
                tags.append(cluster.submit(0, .get(.linearizable), key: Bytes("k\(number)")))
            }
        }
        try submitSome()
        // Requests and the stop meet in one pass.
        core.lanes[0].post(.stop)
        try submitSome()
        cluster.settle()
        try submitSome()
        #expect(tags.allSatisfy { cluster.sink.replies[$0] != nil })
    }

    @Test("three nodes bootstrap one cluster, spread leaders, replicate and read linearizably")
    func three() throws {
        let cluster = TestCluster(nodes: 3, regions: 6)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let topologies = cluster.members.compactMap { $0.core?.topology }
        #expect(topologies.count == 3)
        #expect(Set(topologies.map(\.cluster)).count == 1)
        let leaders = topologies[0].regions.compactMap(\.leader)
        #expect(leaders.count == 6)
        #expect(Set(leaders).count == 3)
        #expect(cluster.members.filter { $0.core?.isLeader ?? false }.count == 1)

        for number in 0..<300 {
            let reply = try cluster.write(
                .put(key: Bytes("\(number % 36)-\(number)"), value: Bytes("v\(number)")))
            guard case .command(.applied)? = reply else {
                Issue.record("write \(number): \(String(describing: reply))")
                return
            }
        }
        cluster.pass(milliseconds: 500)
        for number in 0..<300 {
            let key = Bytes("\(number % 36)-\(number)")
            let leader = try #require(cluster.leader(of: key))
            #expect(value(cluster.read(key, at: leader)) == Bytes("v\(number)"))
            // Followers have applied it too, and send linearizable readers on.
            let other = (leader + 1) % 3
            #expect(value(cluster.read(key, at: other, .stale)) == Bytes("v\(number)"))
            guard case .failed(.rejected(.notLeader(let info)))? = cluster.read(key, at: other)
            else {
                Issue.record("a follower served a linearizable read")
                return
            }
            #expect(info.leader == cluster.members[leader].core?.nodeID)
        }
        for region in topologies[0].regions {
            var digests = Set<RegionDigest>()
            for number in 0..<3 {
                let tag = cluster.submit(number, .digest, key: region.range.lower)
                cluster.settle()
                if case .digest(let digest)? = cluster.sink.replies[tag] { digests.insert(digest) }
            }
            #expect(digests.count == 1)
        }
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "the leader of everything dies by power cut: the others go on, it comes back, nothing is lost"
    )
    func leaderCrash() throws {
        let cluster = TestCluster(nodes: 3, regions: 3)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        var expected: [Bytes: Bytes] = [:]
        for round in 0..<6 {
            let victim = round % 3
            for number in 0..<40 {
                let key = Bytes("\(number % 30)k\(number)")
                let text = Bytes("r\(round)n\(number)")
                let reply = try cluster.write(.put(key: key, value: text))
                if case .command(.applied)? = reply { expected[key] = text }
            }
            cluster.crash(victim, seed: UInt64(round))
            cluster.pass(milliseconds: 3000)
            for (key, text) in expected {
                let leader = try #require(
                    cluster.leader(of: key),
                    "no leader with node \(victim) away:\n\(cluster.dump())")
                #expect(value(cluster.read(key, at: leader)) == text)
            }
            try cluster.start(victim)
            cluster.pass(milliseconds: 2000)
        }
        #expect(expected.count == 40)
        #expect(cluster.failures.isEmpty)
    }

    @Test("without a quorum nothing is acknowledged, and reads wait rather than lie")
    func minority() throws {
        let cluster = TestCluster(nodes: 3, regions: 2)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let key: Bytes = "k"
        let leader = try #require(cluster.leader(of: key))
        let alone = try #require(cluster.members[leader].core?.nodeID)
        cluster.network.drops = { $0.from == alone || $0.to == alone }
        let write = cluster.submit(
            leader, .write(record: try Command.put(key: key, value: "lost?").encoded()), key: key)
        let read = cluster.submit(leader, .get(.linearizable), key: key)
        cluster.settle()
        #expect(cluster.sink.replies[write] == nil)
        #expect(cluster.sink.replies[read] == nil)
        // The others elect a leader; the old one steps down and sends its readers away.
        cluster.pass(milliseconds: 3000)
        guard case .failed(.rejected(.notLeader))? = cluster.sink.replies[read] else {
            Issue.record("the isolated read got \(String(describing: cluster.sink.replies[read]))")
            return
        }
        #expect(cluster.sink.replies[write] == nil)
        cluster.network.drops = { _ in false }
        let reply = try cluster.write(.put(key: key, value: "new"))
        cluster.pass(milliseconds: 2000)
        guard case .command(.applied)? = reply else {
            Issue.record(
                "the majority did not write: \(String(describing: reply))\n\(cluster.dump())")
            return
        }
        // The isolated write was overwritten: known never to apply.
        guard case .failed(.rejected(.notLeader))? = cluster.sink.replies[write] else {
            Issue.record("the lost write got \(String(describing: cluster.sink.replies[write]))")
            return
        }
    }

    @Test("a record that its maker could not persist is offered to nobody")
    func failedJoin() throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.members[0].fileSystem.setHook { operation throws(FileError) in
            if operation.path.hasSuffix("identity.new"), operation.kind == .sync {
                throw FileError(kind: .ioFailed, operation: "fdatasync", path: operation.path)
            }
        }
        cluster.pass(milliseconds: 500)
        #expect(cluster.failures.codes == [.ioFailed])
        // With it forgotten by its maker and known to others there could soon be two.
        for member in cluster.members { #expect(member.core?.nodeID == nil) }
    }

    @Test("the data directory's own name is durable before anything in it counts")
    func directoryName() throws {
        let cluster = TestCluster(nodes: 1, regions: 1)
        let seen = SyncedDirectories()
        cluster.members[0].fileSystem.setHook { operation throws(FileError) in
            if operation.kind == .syncDirectory { seen.paths.append(operation.path) }
        }
        try cluster.startAll()
        #expect(seen.paths.first == ".")
    }

    @Test("a directory of another node, or without its log, is refused and left alone")
    func identity() throws {
        let cluster = TestCluster(nodes: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        cluster.crash(0, seed: 1)
        #expect { try cluster.start(0, name: "somebody-else") } throws: { error in
            (error as? NodeError)?.code == .identity
        }
        let fileSystem = cluster.members[0].fileSystem
        let intact = try #require(fileSystem.contents("data/identity"))
        // Of a later format: its digit and a checksum that is right.
        var newer = intact
        newer[7] = UInt8(ascii: "3")
        let checksum = newer.dropLast(4).withUnsafeBytes { CRC32C.checksum($0) }
        withUnsafeBytes(of: checksum.littleEndian) {
            newer.replaceSubrange(newer.count - 4..<newer.count, with: $0)
        }
        fileSystem.replace("data/identity", with: newer)
        #expect { try cluster.start(0) } throws: { error in
            let error = error as? NodeError
            return error?.code == .identity && error?.message.contains("format 3") == true
        }
        // The digit alone is damage.
        newer = intact
        newer[7] = UInt8(ascii: "3")
        fileSystem.replace("data/identity", with: newer)
        #expect { try cluster.start(0) } throws: { error in
            (error as? NodeError)?.code == .corrupted
        }
        try fileSystem.remove("data/identity")
        #expect { try cluster.start(0) } throws: { error in
            (error as? NodeError)?.code == .identity
        }
    }
}

/// Which directories were synced, in order.
private final class SyncedDirectories: @unchecked Sendable {
    // Safety: used on the test's thread only.
    var paths: [String] = []
}
