// One `ukehi serve` as a process of its own, of this very executable.

import Glibc
import Synchronization

/// A node's process: started, killed and started again. Used by one task.
final class ServerChild {
    let address: String
    let directory: String
    /// Where what it prints goes, over all its lives.
    let output: String
    private let arguments: [String]
    private var process: pid_t = 0
    /// Where in `output` the present life begins.
    private var begin = 0

    /// - Parameter position: From 0; the node's name is `node-(position + 1)`.
    init(position: Int, addresses: [String], directory: String, state: BenchState) {
        let name = "node-\(position + 1)"
        address = addresses[position]
        self.directory = "\(directory)/\(name)"
        output = "\(directory)/\(name).log"
        arguments = [
            "ukehi", "serve", "--log-level", "warning", "--cluster-node-id", name,
            "--cluster-listen", address,
            "--cluster-peers",
            addresses.filter { $0 != addresses[position] }.joined(separator: ","),
            "--cluster-data-dir", self.directory, "--storage-state", state.rawValue,
            // The nodes share the machine.
            "--runtime-lanes", "1",
        ]
    }

    deinit { kill() }

    /// Starts the process; the node is ready later.
    func start() throws {
        begin = text().utf8.count
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(
            &actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // What this process ignores, or leaves to one of its threads, the node must not.
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK))
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var started: pid_t = 0
        let code = posix_spawn(
            &started, "/proc/self/exe", &actions, &attributes, &words, environ)
        guard code == 0 else {
            throw BenchFailure("A node was not started: \(String(cString: strerror(code))).")
        }
        process = started
        ServerChildren.started(started)
    }

    /// Waits until the node has said that it serves.
    func ready(patience: UInt64 = 60_000_000_000) async throws {
        let deadline = BenchClock.now() + patience
        while !printed().contains("ready \(address)") {
            var status: Int32 = 0
            if waitpid(process, &status, WNOHANG) == process {
                ServerChildren.ended(process)
                process = 0
                throw BenchFailure("The node at \(address) ended by itself: \(printed())")
            }
            guard BenchClock.now() < deadline else {
                throw BenchFailure("The node at \(address) was not ready in time: \(printed())")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// `kill -9`; gives the moments before and after. The process is gone when this returns.
    @discardableResult
    func kill() -> (before: UInt64, after: UInt64) {
        let before = BenchClock.now()
        guard process > 0 else { return (before, before) }
        Glibc.kill(process, SIGKILL)
        let after = BenchClock.now()
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 && errno == EINTR {}
        ServerChildren.ended(process)
        process = 0
        return (before, after)
    }

    /// What it has printed in its present life.
    private func printed() -> String {
        String(decoding: Array(text().utf8.dropFirst(begin)), as: UTF8.self)
    }

    private func text() -> String {
        guard let file = fopen(output, "r") else { return "" }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = fread(&buffer, 1, buffer.count, file)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
        }
    }
}

/// All processes that were started and not seen to end: none of them may outlive this one.
enum ServerChildren {
    private static let running = Mutex<Set<pid_t>>([])

    static func started(_ process: pid_t) { _ = running.withLock { $0.insert(process) } }
    static func ended(_ process: pid_t) { _ = running.withLock { $0.remove(process) } }
    static func killAll() { running.withLock { for process in $0 { kill(process, SIGKILL) } } }
}
