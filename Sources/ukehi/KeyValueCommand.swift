// `ukehi kv`: single operations on a running cluster.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiNode
import UkehiState

struct KeyValueCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kv",
        abstract: "Read and write keys of a running cluster.",
        discussion: """
              ukehi kv put user/7 Ada
              ukehi kv put session/7 token --expires-after 3600
              ukehi kv get user/7
              ukehi kv scan --prefix user/ --limit 20
              ukehi kv cas user/7 Grace --expect Ada
              ukehi kv delete user/7

            Any node of the cluster will do as --endpoint. Bytes that are not printable are shown, and
            can be typed, as \\xNN; a backslash as \\\\.
            """,
        subcommands: [Get.self, Put.self, Delete.self, Scan.self, CompareAndSet.self])
}

/// Options of every `kv` command.
struct ConnectionOptions: ParsableArguments {
    @Option(help: "Nodes of the cluster, host:port, separated by commas.")
    var endpoint: String = "127.0.0.1:7878"

    @Option(help: "Seconds to try for.") var timeout: Double = 5

    @Flag(help: "One JSON object per line.") var json = false

    func validate() throws {
        guard (0.01...3600).contains(timeout) else {
            throw ValidationError("--timeout \(timeout): allowed are 0.01 to 3600 seconds")
        }
        for part in endpoints where EndpointText(part) == nil {
            throw ValidationError("--endpoint \(part): allowed is host:port")
        }
        guard !endpoints.isEmpty else {
            throw ValidationError("--endpoint: allowed is host:port")
        }
    }

    var endpoints: [String] { endpoint.split(separator: ",").map(String.init) }
    var patience: Duration { .milliseconds(Int64(timeout * 1000)) }

    /// Runs `body` with a client that is closed afterwards.
    func withClient(_ body: (Client) async throws -> Void) async throws {
        let client = try Client(endpoints: endpoints)
        do { try await body(client) } catch {
            await client.stop()
            throw error
        }
        await client.stop()
    }
}

/// A key or value on the command line.
struct BytesArgument: ExpressibleByArgument {
    var bytes: Bytes
    init?(argument: String) {
        guard let bytes = unescaped(argument) else { return nil }
        self.bytes = bytes
    }
}

/// A read mode on the command line; a type of its own, since conformances of public types are public.
enum ReadModeArgument: String, ExpressibleByArgument, CaseIterable {
    case linearizable, lease, stale

    var mode: ReadMode {
        switch self {
        case .linearizable: .linearizable
        case .lease: .lease
        case .stale: .stale
        }
    }
}

extension KeyValueCommand {
    struct Get: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a key's value; exit code 1 if there is none.")

        @Argument(help: "The key.") var key: BytesArgument
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "linearizable, lease or stale.") var read: ReadModeArgument = .linearizable
        @Flag(help: "The value's bytes as they are, and nothing else.") var raw = false

        func run() async throws {
            try await connection.withClient { client in
                let found = try await client.get(
                    key.bytes, mode: read.mode, timeout: connection.patience)
                guard let found else {
                    if connection.json { printLine(JSONValue.null.text) }
                    throw Failure(
                        status: ExitStatus.failure, message: connection.json ? "" : "no such key")
                }
                if raw {
                    printRaw(found.value)
                } else if connection.json {
                    printLine(pairObject(key.bytes, found).text)
                } else {
                    printLine(escaped(found.value))
                }
            }
        }
    }

    struct Put: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set a key; returns when it is durable on a majority.")

        @Argument(help: "The key.") var key: BytesArgument
        @Argument(help: "The value; - reads it from standard input.") var value: String
        @Option(help: "Seconds from now after which the key is gone by itself.")
        var expiresAfter: Double?
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            if let expiresAfter, !(0.001...3e9).contains(expiresAfter) {
                throw ValidationError(
                    "--expires-after \(expiresAfter): allowed are 0.001 to 3000000000 seconds")
            }
        }

        func run() async throws {
            let bytes = try valueBytes(value)
            try await connection.withClient { client in
                let patience = connection.patience
                let version =
                    if let expiresAfter {
                        try await client.put(
                            key.bytes, bytes,
                            expiresAfter: .milliseconds(Int64(expiresAfter * 1000)),
                            timeout: patience)
                    } else {
                        try await client.put(key.bytes, bytes, timeout: patience)
                    }
                printOutcome("version \(version)", ["version": .int(Int(version))], connection)
            }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a key.")

        @Argument(help: "The key.") var key: BytesArgument
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await connection.withClient { client in
                try await client.delete(key.bytes, timeout: connection.patience)
                printOutcome("deleted", ["deleted": .bool(true)], connection)
            }
        }
    }

    struct Scan: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List keys in order.",
            discussion: "  ukehi kv scan --from a --to b --limit 10")

        @Option(help: "The first key.") var from: BytesArgument?
        @Option(help: "The key to stop before.") var to: BytesArgument?
        @Option(help: "Only keys that begin so.") var prefix: BytesArgument?
        @Option(help: "At most so many.") var limit: Int = 100
        @Option(help: "linearizable, lease or stale.") var read: ReadModeArgument = .linearizable
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard limit > 0 else { throw ValidationError("--limit \(limit): allowed is 1 and up") }
            guard prefix == nil || (from == nil && to == nil) else {
                throw ValidationError("--prefix stands alone, without --from and --to")
            }
        }

        func run() async throws {
            let lower = prefix?.bytes ?? from?.bytes ?? Bytes()
            let upper = prefix.map { successor(ofPrefix: $0.bytes) } ?? to?.bytes
            try await connection.withClient { client in
                let found = try await client.scan(
                    from: lower, to: upper, limit: limit, mode: read.mode,
                    timeout: connection.patience)
                if connection.json {
                    for pair in found.pairs {
                        let found = VersionedValue(value: pair.value, version: pair.version)
                        printLine(pairObject(pair.key, found).text)
                    }
                    return
                }
                var table = TextTable([("KEY", .left), ("VERSION", .right), ("VALUE", .left)])
                for pair in found.pairs {
                    table.append([escaped(pair.key), "\(pair.version)", escaped(pair.value)])
                }
                for line in table.lines { printLine(line) }
                if found.hasMore { printError("more keys follow; raise --limit") }
            }
        }
    }

    struct CompareAndSet: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cas",
            abstract: "Set a key if it is as expected; exit code 1 if it is not.",
            discussion: """
                  ukehi kv cas lock me --expect-absent
                  ukehi kv cas user/7 Grace --expect Ada
                  ukehi kv cas user/7 Grace --expect-version 12
                """)

        @Argument(help: "The key.") var key: BytesArgument
        @Argument(help: "The new value; - reads it from standard input.") var value: String
        @Option(help: "The value it must have.") var expect: BytesArgument?
        @Option(help: "The version it must have.") var expectVersion: UInt64?
        @Flag(help: "It must not exist.") var expectAbsent = false
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            let given = (expect == nil ? 0 : 1) + (expectVersion == nil ? 0 : 1)
            guard given + (expectAbsent ? 1 : 0) == 1 else {
                throw ValidationError(
                    "give one of --expect, --expect-version and --expect-absent")
            }
        }

        func run() async throws {
            let bytes = try valueBytes(value)
            let expected: Expectation =
                if let expect {
                    .value(expect.bytes)
                } else if let expectVersion {
                    .version(expectVersion)
                } else {
                    .absent
                }
            try await connection.withClient { client in
                let version = try await client.compareAndSet(
                    key.bytes, expected: expected, to: bytes, timeout: connection.patience)
                guard let version else {
                    if connection.json {
                        printLine(JSONValue.object([("swapped", .bool(false))]).text)
                    }
                    throw Failure(
                        status: ExitStatus.failure,
                        message: connection.json ? "" : "not as expected; nothing was changed")
                }
                printOutcome(
                    "version \(version)",
                    ["swapped": .bool(true), "version": .int(Int(version))], connection)
            }
        }
    }
}

/// The least key above all that begin with `prefix`; nil if there is none.
private func successor(ofPrefix prefix: Bytes) -> Bytes? {
    var bytes = prefix.array
    while let last = bytes.popLast() {
        if last < UInt8.max { return Bytes(bytes + [last + 1]) }
    }
    return nil
}

private func pairObject(_ key: Bytes, _ found: VersionedValue) -> JSONValue {
    .object([
        ("key", .string(escaped(key))), ("version", .int(Int(found.version))),
        ("value", .string(escaped(found.value))),
    ])
}

private func printOutcome(
    _ text: String, _ fields: KeyValuePairs<String, JSONValue>, _ connection: ConnectionOptions
) {
    if connection.json {
        printLine(JSONValue.object(fields.map { ($0.key, $0.value) }).text)
    } else {
        printLine(text)
    }
}

/// The value that an argument stands for; `-` is what standard input holds.
private func valueBytes(_ argument: String) throws -> Bytes {
    guard argument == "-" else {
        guard let bytes = unescaped(argument) else {
            throw ValidationError("a backslash in the value begins no escape: use \\\\ or \\xNN")
        }
        return bytes
    }
    // One more than a value may have, so that too much is refused by the node and not cut here.
    return readInput(limit: CommandLimits.maxValueBytes + 1)
}
