// `ukehi region` as an operator meets it: real processes, the built command, nothing else.

import Foundation
import Synchronization
import Testing
import Ukehi
import UkehiBase
import _UkehiTestSupport

/// What `region list --json`, `region split --json` and `region show --json` say of a region.
private struct Listed: Decodable {
    struct Load: Decodable {
        struct Refusal: Decodable {
            var of: String
            var reason: String
            var secondsAgo: Int
        }
        struct Part: Decodable {
            var first: String
            var last: String
            var share: Double
            var readShare: Double
            var writeShare: Double
        }
        var readsPerSecond: Double
        var writesPerSecond: Double
        var sizeBytes: Int?
        var refusals: [Refusal]
        var hot: [Part]
    }
    var region: UInt64
    var from: String
    var to: String
    var epoch: String
    var leader: String?
    var nodes: [String]
    var load: Load?

    var bounds: [String] { [from, to] }
}

/// What `region hot --json` says of a region.
private struct Hot: Decodable {
    var region: UInt64
    var leader: String
    var from: String
    var to: String
    var refusals: [Listed.Load.Refusal]
    var hot: [Listed.Load.Part]
}

private final class Flag: Sendable {
    private let isRaised = Atomic<Bool>(false)
    func raise() { isRaised.store(true, ordering: .relaxed) }
    var isUp: Bool { isRaised.load(ordering: .relaxed) }
}

@Suite("Command line: regions", .prompt, .serialized, .timeLimit(.minutes(5)))
struct RegionCommandTests {
    private func start(
        _ position: Int, _ addresses: [String], _ directory: String, load: Int = 0
    ) throws -> ServerProcess {
        try ServerProcess(
            position: position, addresses: addresses,
            directory: "\(directory)/node-\(position + 1)",
            extra: [
                "--storage-state", "memory", "--sharding-num-shards", "1",
                "--sharding-split-load-per-second", "\(load)",
            ])
    }

    /// Patient: other tests may have the processors to themselves for a while.
    private func options(_ addresses: [String]) -> [String] {
        ["--endpoint", addresses.joined(separator: ","), "--timeout", "60"]
    }

    private func succeed(_ arguments: [String]) throws -> String {
        let outcome = try ukehi(arguments)
        #expect(outcome.status == 0, "\(arguments): \(outcome.output) \(outcome.errors)")
        return outcome.output
    }

    private func list(_ options: [String]) throws -> [Listed] {
        try objects(try succeed(["region", "list", "--json"] + options))
    }

    @Test("regions are listed, divided and shown; what is refused says why, and changes nothing")
    func story() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(3)
            let nodes = try (0..<3).map { try start($0, addresses, directory) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: addresses)
            for number in 10..<40 {
                try await client.put(Bytes("k\(number)"), "value", timeout: .seconds(60))
            }
            let options = options(addresses)
            let whole = try list(options)
            #expect(whole.map(\.bounds) == [["", ""]])
            #expect(whole.first?.nodes == ["node-1", "node-2", "node-3"])
            let id = try #require(whole.first?.region)

            // Refused, each for its own reason.
            let split = ["region", "split"]
            try refuse(split + options, 64, "--at")
            try refuse(split + ["--at", "zz"] + options, 1, "One of the parts would have no key")
            try refuse(split + ["--at", "a"] + options, 1, "One of the parts would have no key")
            try refuse(
                split + ["--at", "k30", "--at", "k20"] + options, 1, "The keys do not ascend")
            try refuse(
                split + ["--at", "k30", "--at", "k30"] + options, 1, "The keys do not ascend")
            #expect(try list(options).map(\.epoch) == whole.map(\.epoch))

            let made: [Listed] = try objects(
                try succeed(split + ["--at", "k20", "--at", "k30", "--json"] + options))
            #expect(made.map(\.bounds) == [["", "k20"], ["k20", "k30"], ["k30", ""]])
            #expect(made.last?.region == id)
            #expect(made.allSatisfy { $0.nodes == ["node-1", "node-2", "node-3"] })
            // Where a region begins none can be divided.
            try refuse(split + ["--at", "k20"] + options, 1, "The key does not divide the region")
            // Keys of several regions.
            try refuse(split + ["--at", "k15", "--at", "k25"] + options, 1, "it lies outside")
            let table = try succeed(split + ["--at", "k15"] + options)
            let lines = table.split(separator: "\n")
            #expect(lines.count == 3 && lines[0].hasPrefix("REGION  FROM"), "\(table)")
            #expect(lines[1].contains("(beginning)  k15"), "\(table)")

            let now = try list(options)
            #expect(now.map(\.from) == ["", "k15", "k20", "k30"])
            #expect(now.map(\.to) == ["k15", "k20", "k30", ""])
            #expect(Set(now.map(\.region)).count == 4)
            let shown: [Listed] = try objects(
                try succeed(["region", "show", "--key", "k17", "--json"] + options))
            #expect(shown.map(\.region) == [now[1].region])
            #expect(shown.first?.load != nil)
            let text = try succeed(["region", "show", "--region", "\(id)"] + options)
            #expect(text.contains("load: ") && text.contains("size: "), "\(text)")
            try refuse(["region", "show", "--region", "9999"] + options, 64, "no such region")
            try refuse(["region", "show"] + options, 64, "give one of --region and --key")
            try refuse(["region", "hot", "--top", "0"] + options, 64, "--top is a number from 1")

            // Its clients have not noticed.
            for number in 10..<40 {
                let found = try await client.get(
                    Bytes("k\(number)"), mode: .linearizable, timeout: .seconds(60))
                #expect(found?.value == "value")
            }

            // One node knows of all regions, also of those that it has no peer of, and that nobody leads any more;
            // and does not divide any.
            _ = try succeed(
                ["member", "set", "--voters", "node-3", "--region", "\(id)"] + options)
            try await eventually("the map is with node-1") {
                let seen = try? await client.topology(at: addresses[0], timeout: .seconds(5))
                return seen?.regions.count == 4 && seen?.regions.last?.nodes.count == 1
            }
            try await nodes[2].kill()
            let two = ["--endpoint", addresses[..<2].joined(separator: ","), "--timeout", "60"]
            let without = try ukehi(["region", "list", "--json"] + two)
            #expect(
                without.status == 1 && without.errors.contains("node-3 did not answer"),
                "\(without)")
            let known: [Listed] = try objects(without.output)
            #expect(known.map(\.bounds) == now.map(\.bounds))
            #expect(known.last?.nodes == ["node-3"] && known.last?.leader == nil)
            #expect(known.dropLast().allSatisfy { $0.nodes.contains("node-1") })
            try await nodes[1].kill()
            let alone = ["--endpoint", addresses[0], "--timeout", "2"]
            let left: [Listed] = try objects(
                try ukehi(["region", "list", "--json"] + alone).output)
            #expect(left.map(\.bounds) == now.map(\.bounds))
            let outcome = try ukehi(split + ["--at", "k35"] + alone)
            #expect(outcome.status == 69, "\(outcome)")
            try refuse(["region", "hot"] + alone, 1, "no answer from node-2, node-3")
            await client.stop()
            try await nodes[0].kill()
        }
    }

    @Test("what is asked most is shown, who reads and who writes, and why it is not divided")
    func hot() async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(3)
            let nodes = try (0..<3).map { try start($0, addresses, directory, load: 20) }
            for node in nodes { try await node.ready() }
            let client = try Client(endpoints: addresses)
            let options = options(addresses)
            let isDone = Flag()
            var told: [Hot] = []
            try await withThrowingTaskGroup(of: Void.self) { group in
                for reader in 0..<4 {
                    group.addTask {
                        while !isDone.isUp {
                            if reader == 0 {
                                try await client.put("popular", "v", timeout: .seconds(60))
                            } else {
                                _ = try await client.get(
                                    "popular", mode: .linearizable, timeout: .seconds(60))
                            }
                        }
                    }
                }
                defer { isDone.raise() }
                try await eventually("it is refused for its one key") {
                    let outcome = try ukehi(["region", "hot", "--top", "1", "--json"] + options)
                    guard outcome.status == 0 else { return false }
                    told = try objects(outcome.output)
                    return told.first?.refusals.contains {
                        $0.of == "load" && $0.reason.hasPrefix("One key takes")
                    } ?? false
                }
                let table = try succeed(["region", "hot"] + options)
                #expect(table.hasPrefix("REGION  LEADER "), "\(table)")
                #expect(table.contains("not split for its load, "), "\(table)")
                #expect(table.contains("popular alone"), "\(table)")
                let text = try succeed(["region", "show", "--key", "popular"] + options)
                #expect(text.contains("not split for its load, "), "\(text)")
                #expect(text.contains("writes): popular alone"), "\(text)")
            }
            let part = try #require(told.first?.hot.first)
            #expect(part.first == "popular" && part.last == "popular")
            #expect(part.readShare > 0 && part.writeShare > 0)
            #expect(abs(part.share - part.readShare - part.writeShare) < 0.01)
            #expect(part.share > 0.9 && part.share < 1.01)
            #expect(try list(options).count == 1)
            await client.stop()
            for node in nodes { #expect(try await node.stop(SIGTERM) == 0) }
        }
    }
}
