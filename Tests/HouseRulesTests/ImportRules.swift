// Which module may import which: the dependency direction of docs/ARCHITECTURE.md as data.
//
// Swift's compiler holds a module to what its target lists; this list says what the target may list,
// so that a convenient dependency added to Package.swift is still refused with its reason.

import Foundation
import Testing

/// What one module may import.
private struct ImportRule {
    var module: String
    var mayImport: Set<String>
    /// What the rule protects, told when it is broken.
    var because: String

    init(_ module: String, _ mayImport: String, because: String) {
        self.module = module
        self.mayImport = Set(mayImport.split(separator: " ").map(String.init))
        self.because = because
    }
}

private let nio = "NIOCore NIOPosix"

private let rules: [ImportRule] = [
    ImportRule(
        "UkehiBase", "Glibc Musl CISAL",
        because: "everything stands on it, so it stands on nothing"),
    ImportRule(
        "UkehiEnvironment", "UkehiBase", because: "it says what the world offers, never how"),
    ImportRule(
        "UkehiRaft", "UkehiBase",
        because: "the core is pure: no clock, no I/O, no logger, no Foundation"),
    ImportRule(
        "UkehiWAL", "UkehiBase UkehiEnvironment CLZ4 Synchronization Glibc Musl",
        because: "the log knows entries and files, neither Raft nor state machines"),
    ImportRule(
        "UkehiState", "UkehiBase UkehiEnvironment CZstd Synchronization Glibc Musl",
        because: "state machines know commands, neither consensus nor the log"),
    ImportRule(
        "UkehiNode",
        "UkehiBase UkehiEnvironment UkehiRaft UkehiWAL UkehiState Logging DequeModule "
            + "Synchronization Glibc Musl",
        because: "the node sees files, sockets and threads only through its own protocols"),
    ImportRule(
        "UkehiPOSIX", "UkehiBase UkehiEnvironment Glibc Musl Synchronization",
        because: "the real disk knows nothing of what it stores"),
    ImportRule(
        "UkehiRocksDB", "UkehiBase UkehiState CRocksDB Synchronization Glibc Musl",
        because: "RocksDB stays behind StateStore"),
    ImportRule(
        "UkehiTransport",
        "UkehiBase UkehiEnvironment UkehiRaft UkehiState UkehiNode Logging DequeModule "
            + "Synchronization Glibc Musl " + nio,
        because: "the network carries messages and decides nothing"),
    ImportRule(
        "UkehiSimulation",
        "UkehiBase UkehiEnvironment UkehiRaft UkehiWAL UkehiState UkehiNode UkehiPlacement Logging "
            + "Synchronization Glibc Musl",
        because: "nothing real is simulated: no disk, no socket, no thread, no clock"),
    ImportRule(
        "Ukehi",
        "UkehiBase UkehiEnvironment UkehiRaft UkehiWAL UkehiState UkehiNode UkehiPOSIX "
            + "UkehiRocksDB UkehiTransport Logging ServiceLifecycle TOMLKit UnixSignals Synchronization Glibc "
            + "Musl NIOCore NIOPosix",
        because: "the façade joins the parts: event loops are made here, spoken to elsewhere"),
    ImportRule(
        "ukehi",
        "Ukehi UkehiBase UkehiEnvironment UkehiRaft UkehiWAL UkehiState UkehiNode UkehiPOSIX "
            + "UkehiTransport UkehiSimulation ArgumentParser Logging Histogram NIOCore NIOPosix Synchronization Glibc Musl Dispatch "
            + "Foundation FoundationEssentials",
        because: "the command parses and prints"),
]

/// Folders that only map a C library.
private let moduleMaps: Set<String> = ["CISAL", "CLZ4", "CRocksDB", "CZstd"]

@Suite("House rules: dependencies")
struct ImportRulesTests {
    @Test("each module imports only what its rule allows")
    func imports() throws {
        for rule in rules {
            for file in try SourceTree.files(in: "Sources/\(rule.module)", endings: [".swift"]) {
                for (number, line) in file.lines.enumerated() {
                    guard let module = importedModule(line) else { continue }
                    #expect(
                        rule.mayImport.contains(module),
                        "\(file.path):\(number + 1) imports \(module): \(rule.because)")
                }
            }
        }
    }

    @Test("each module has a rule")
    func everyModule() throws {
        let known = Set(rules.map(\.module)).union(moduleMaps)
        for module in try SourceTree.modules() {
            #expect(known.contains(module), "Sources/\(module) has no import rule yet")
        }
    }

    @Test("the consensus core has no async, no clock and no chance of its own")
    func purity() throws {
        let forbidden = ["async", "await", "Task", "ContinuousClock", "SuspendingClock", "Mutex"]
        for file in try SourceTree.files(in: "Sources/UkehiRaft", endings: [".swift"]) {
            for (number, line) in file.lines.enumerated() {
                let code = line.components(separatedBy: "//")[0]
                let words = code.split { !$0.isLetter && !$0.isNumber && $0 != "_" }
                for word in words where forbidden.contains(String(word)) {
                    Issue.record("\(file.path):\(number + 1) says \(word)")
                }
                #expect(!code.contains(".random("), "\(file.path):\(number + 1) rolls dice")
            }
        }
    }

    /// The module that a line imports, if it is an import.
    private func importedModule(_ line: String) -> String? {
        var words = line.split(separator: " ").map(String.init)
        while let first = words.first,
            ["public", "package", "internal", "private", "fileprivate"].contains(first)
                || first.hasPrefix("@")
        {
            words.removeFirst()
        }
        guard words.first == "import", words.count >= 2 else { return nil }
        let kinds: Set = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
        let name = kinds.contains(words[1]) && words.count >= 3 ? words[2] : words[1]
        return name.split(separator: ".").first.map(String.init)
    }
}
