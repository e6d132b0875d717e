// `ukehi simulate` as a program: one seed does the same thing in every process.

import Foundation
import Testing
import _UkehiTestSupport

@Suite("Command line: simulate", .prompt, .timeLimit(.minutes(5)))
struct SimulateCommandTests {
    /// The lines of a run, without what depends on the machine.
    private func simulate(_ arguments: [String], hashing: String) throws -> [String] {
        let process = Process()
        process.executableURL = ServerProcess.executable
        process.arguments = ["simulate", "--json"] + arguments
        var environment = ProcessInfo.processInfo.environment
        // Without this variable Swift seeds its hashing by chance in each process.
        environment["SWIFT_DETERMINISTIC_HASHING"] = hashing
        process.environment = environment
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return try String(decoding: text, as: UTF8.self).split(separator: "\n").map { line in
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            #expect(object["failed"] as? Bool == false)
            let hash = try #require(object["trace_hash"] as? String)
            #expect(hash.count == 16)
            return "\(object["seed"] ?? "") \(hash) \(object["events"] ?? "")"
        }.sorted()
    }

    @Test("a seed's trace is the same in two processes, with hashing seeded by chance and not")
    func determinism() throws {
        let arguments = ["--seed", "11", "--seeds", "3", "--minutes", "0.1"]
        let first = try simulate(arguments, hashing: "")
        #expect(first.count == 3)
        #expect(try simulate(arguments, hashing: "") == first)
        #expect(try simulate(arguments, hashing: "1") == first)
        let others = try simulate(["--seed", "31", "--minutes", "0.1"], hashing: "")
        #expect(Set(others).isDisjoint(with: first))
    }
}
