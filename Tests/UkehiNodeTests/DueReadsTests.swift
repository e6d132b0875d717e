// Values that expire where nothing is written: who reads them has logged time carried on (Lane+DueReads.swift).

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("reads of what has expired")
struct DueReadsTests {
    private static let lifetime = 10_000

    /// Three nodes; "soon" expires in ten seconds, "later" in twenty, "kept" does not.
    private func started(storeSeed: UInt64?) throws -> TestCluster {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: storeSeed) {
            $0.compactionInterval = .max
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let now = cluster.clock.wallNanoseconds()
        let life = UInt64(Self.lifetime) * 1_000_000
        for command in [
            Command.put(key: "kept", value: "1"),
            .put(key: "later", value: "2", expiresAt: now + 2 * life),
            .put(key: "soon", value: "3", expiresAt: now + life),
        ] {
            guard case .command(.applied)? = try cluster.write(command) else {
                Issue.record("\(command) was not applied")
                continue
            }
        }
        return cluster
    }

    private func value(_ reply: Reply?) throws -> Bytes? {
        guard case .value(let found)? = reply else {
            Issue.record("not read: \(String(describing: reply))")
            return "not read"
        }
        return found?.value
    }

    private func last(_ cluster: TestCluster) -> LogIndex? {
        cluster.leads().flatMap { cluster.region($0)?.raft.lastIndex }
    }

    /// A read is confirmed, and an entry reaches nobody.
    private func holdEntries(of number: Int, _ cluster: TestCluster) {
        let own = cluster.node(number)
        cluster.network.drops = { packet in
            packet.from == own
                && packet.messages.contains {
                    $0.message.kind == .appendEntries && !$0.message.entries.isEmpty
                }
        }
    }

    @Test("it is gone for who asks the leader, at the cost of one entry", arguments: [nil, 1])
    func expires(storeSeed: UInt64?) throws {
        let cluster = try started(storeSeed: storeSeed)
        let leader = try #require(cluster.leads())
        let before = try #require(last(cluster))
        cluster.pass(milliseconds: Self.lifetime - 1000)
        #expect(try value(cluster.read("soon", at: leader)) == "3")
        cluster.pass(milliseconds: 2000)
        // Nobody has looked: nothing was written, and by logged time it is there.
        #expect(last(cluster) == before)
        #expect(try value(cluster.read("soon", at: leader, .stale)) == "3")
        #expect(try value(cluster.read("kept", at: leader)) == "1")
        #expect(last(cluster) == before)

        var tags = (0..<5).map { _ in cluster.submit(leader, .get(.linearizable), key: "soon") }
        tags.append(cluster.submit(leader, .get(.lease), key: "soon"))
        let scan = cluster.submit(
            leader, .scan(upper: "", limit: 10, .linearizable), key: "")
        cluster.settle()
        for tag in tags { #expect(try value(cluster.sink.replies[tag]) == nil) }
        guard case .scan(let page)? = cluster.sink.replies[scan] else {
            Issue.record("not scanned")
            return
        }
        #expect(page.pairs.map(\.key) == ["kept", "later"])
        #expect(last(cluster) == before + 1)
        // Everywhere, once they have heard of it.
        cluster.pass(milliseconds: 500)
        for number in 0..<3 {
            #expect(try value(cluster.read("soon", at: number, .stale)) == nil)
            #expect(try value(cluster.read("later", at: number, .stale)) == "2")
        }
        #expect(try value(cluster.read("soon", at: leader)) == nil)
        #expect(last(cluster) == before + 1)

        cluster.pass(milliseconds: Self.lifetime)
        let whole = cluster.submit(
            leader, .scan(upper: "", limit: 10, .linearizable), key: "")
        cluster.settle()
        guard case .scan(let rest)? = cluster.sink.replies[whole] else {
            Issue.record("not scanned")
            return
        }
        #expect(rest.pairs.map(\.key) == ["kept"])
        #expect(last(cluster) == before + 2)
        cluster.pass(milliseconds: 500)
        let digests = try cluster.members.map {
            try $0.core?.applier.digest(region: TestCluster.id)
        }
        #expect(Set(digests).count == 1)
        #expect(cluster.failures.isEmpty)
    }

    @Test("so it is when the state is read on another thread", arguments: [nil, 1])
    func onReadThread(storeSeed: UInt64?) throws {
        let cluster = try started(storeSeed: storeSeed)
        let leader = try #require(cluster.leads())
        let large = Bytes(Array(repeating: 7, count: 1 << 20))
        let count = Limits.maxReadBytesInPass >> 20
        for number in 0...count {
            _ = try cluster.write(.put(key: Bytes("large \(number)"), value: large))
        }
        cluster.pass(milliseconds: Self.lifetime + 1000)
        let before = try #require(last(cluster))
        let others = (0...count).map {
            cluster.submit(leader, .get(.linearizable), key: Bytes("large \($0)"))
        }
        let tag = cluster.submit(leader, .get(.linearizable), key: "soon")
        cluster.settle()
        for other in others { #expect(try value(cluster.sink.replies[other]) == large) }
        #expect(try value(cluster.sink.replies[tag]) == nil)
        #expect(last(cluster) == before + 1)
        #expect(cluster.members[leader].core?.lanes[0].waitingReadBytes == 0)
    }

    @Test("who waits when the leader is one no more is sent on")
    func leaderLeaves() throws {
        let cluster = try started(storeSeed: 1)
        let leader = try #require(cluster.leads())
        cluster.pass(milliseconds: Self.lifetime + 1000)
        let own = cluster.node(leader)
        holdEntries(of: leader, cluster)
        let tag = cluster.submit(leader, .get(.linearizable), key: "soon")
        cluster.settle()
        #expect(cluster.sink.replies[tag] == nil)
        #expect(cluster.region(leader)?.dueReads.count == 1)
        cluster.network.drops = { $0.from == own || $0.to == own }
        cluster.pass(milliseconds: 5000)
        guard case .failed(.rejected(.notLeader))? = cluster.sink.replies[tag] else {
            Issue.record("\(String(describing: cluster.sink.replies[tag]))")
            return
        }
        #expect(cluster.region(leader)?.dueReads.isEmpty == true)
        #expect(cluster.members[leader].core?.lanes[0].waitingReadBytes == 0)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 3000)
        let next = try #require(cluster.leads())
        #expect(try value(cluster.read("soon", at: next)) == nil)
        #expect(cluster.failures.isEmpty)
    }

    @Test("who has waited too long is told so")
    func patience() throws {
        let cluster = try started(storeSeed: 1)
        let leader = try #require(cluster.leads())
        cluster.pass(milliseconds: Self.lifetime + 1000)
        holdEntries(of: leader, cluster)
        let tag = cluster.submit(leader, .get(.linearizable), key: "soon", patience: 500)
        cluster.pass(milliseconds: 2500)
        guard case .failed(.rejected(.timedOut))? = cluster.sink.replies[tag] else {
            Issue.record("\(String(describing: cluster.sink.replies[tag]))")
            return
        }
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 2000)
        #expect(cluster.members[leader].core?.lanes[0].waitingReadBytes == 0)
        let now = try #require(cluster.leads())
        #expect(try value(cluster.read("soon", at: now)) == nil)
    }
}
