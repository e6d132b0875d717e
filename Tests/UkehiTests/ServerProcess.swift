// One `ukehi serve` process, as an operator would run it.

import Foundation
import Synchronization

/// A running node in a process of its own; ends with the test.
final class ServerProcess: @unchecked Sendable {
    // Safety: `output` and `hasOutputEnded` are behind the lock; the process object is used by one test task at a time.
    private let process = Process()
    private let lock = NSLock()
    private var output = ""
    private var hasOutputEnded = false
    let address: String

    /// The executable that lies beside the test bundle.
    static let executable = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "ukehi")

    /// Starts a node of a cluster whose nodes listen on `addresses`.
    init(position: Int, addresses: [String], directory: String, extra: [String] = []) throws {
        address = addresses[position]
        process.executableURL = ServerProcess.executable
        let peers = addresses.filter { $0 != addresses[position] }.joined(separator: ",")
        process.arguments =
            [
                "serve", "--log-level", "warning", "--cluster-node-id", "node-\(position + 1)",
                "--cluster-listen", addresses[position], "--cluster-peers", peers,
                "--cluster-data-dir", directory, "--sharding-num-shards", "4",
                "--raft-election-timeout-ms", "400", "--raft-heartbeat-interval-ms", "50",
                "--wal-segment-mb", "16", "--runtime-lanes", "1",
            ] + extra
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        // Only the process holds the other end now: its output ends with it.
        try? pipe.fileHandleForWriting.close()
        // A thread of its own reads: a readability handler that ends itself can be called once more, on
        // memory that is gone.
        Thread.detachNewThread { [weak self] in
            while true {
                let data = pipe.fileHandleForReading.availableData
                guard !data.isEmpty else { break }
                self?.append(String(decoding: data, as: UTF8.self))
            }
            self?.outputEnded()
        }
    }

    deinit {
        if process.isRunning { process.terminate() }
    }

    private func append(_ text: String) { lock.withLock { output += text } }
    private func outputEnded() { lock.withLock { hasOutputEnded = true } }

    /// What it has printed so far.
    var printed: String { lock.withLock { output } }
    var isRunning: Bool { process.isRunning }

    /// Returns when the node has said that it serves.
    func ready() async throws {
        try await eventually("\(address) is ready; it printed: \(printed)") {
            guard process.isRunning else { throw NotInTime(what: "it ended: \(printed)") }
            return printed.contains("ready \(address)")
        }
    }

    /// Sends a signal and does not wait.
    func send(_ signal: Int32) { Foundation.kill(process.processIdentifier, signal) }

    /// `kill -9`, and waits for the end.
    func kill() async throws {
        if process.isRunning { send(SIGKILL) }
        try await eventually("\(address) is gone") { !process.isRunning }
    }

    /// Sends a signal, waits for the end and gives the exit code.
    func stop(_ signal: Int32) async throws -> Int32 {
        send(signal)
        return try await exitCode()
    }

    /// Waits for the end, also of what it prints, and gives the exit code.
    func exitCode() async throws -> Int32 {
        try await eventually("\(address) ends; it printed: \(printed)") {
            !process.isRunning && lock.withLock { hasOutputEnded }
        }
        return process.terminationStatus
    }
}

private let givenPorts = Mutex<Set<in_port_t>>([])

/// Addresses on the loopback interface that were free a moment ago, with ports below those that the
/// system gives to outgoing connections: one of these could have the port of a node that is down, and
/// the node could not come back. No test gets a port that another one of this process was given: by chance alone
/// two in a run of all would, one time in ten.
func freeAddresses(_ count: Int) throws -> [String] {
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    var addresses: [String] = []
    while addresses.count < count {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0, sockets.count < 1000 else { throw POSIXError(.EMFILE) }
        sockets.append(descriptor)
        let port = in_port_t.random(in: 15_000..<32_000)
        guard givenPorts.withLock({ $0.insert(port).inserted }) else { continue }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = port.bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
                bind(descriptor, general, length) == 0
            }
        }
        if isBound { addresses.append("127.0.0.1:\(port)") }
    }
    return addresses
}
