import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Documented examples run", .prompt, .timeLimit(.minutes(2)))
struct DocumentationTests {
    @Test("the program of the README")
    func readme() async throws {
        try await withTemporaryDirectory { directory async throws in
            #expect(try await greet(directory: directory + "/node") == "hello")
        }
    }

    @Test("the queue of the article on state machines, and again on its own log")
    func queue() async throws {
        try await withTemporaryDirectory { directory async throws in
            #expect(try await runQueue(directory: directory) == ["write the report", "1"])
            // The first run's log is replayed: one task was left in the queue.
            #expect(try await runQueue(directory: directory) == ["send it", "2"])
        }
    }

    @Test("getting started")
    func gettingStarted() async throws {
        try await withTemporaryDirectory { directory async throws in
            #expect(try await oneNode(directory: directory) == "Ada")
            let node = try await Node.start(directory: directory)
            let outcome = try await conditions(node)
            #expect(outcome.swapped != nil)
            #expect(outcome.visits == 5)
            #expect(try await conditions(node).visits == 10)
            try await node.put("account/7", "open")
            try await transfer(node)
            #expect(try await node.get("account/7")?.value == "paid")
            #expect(try await countVisit(node) == 1)
            await node.stop()
            #expect(try threeNodes(directory: directory).cluster.peers.count == 2)
        }
    }
}
