// The state machine of the article "Writing a state machine"; run by DocumentationTests.swift.

import Ukehi

/// A replicated queue. `+task` adds a task and answers the length; `-` takes the oldest task.
final class TaskQueue: StateMachine, @unchecked Sendable {
    // Safety: the engine calls an instance from one thread at a time.
    private var tasks: [[UInt8]] = []

    func apply(_ command: Bytes, _ context: CommandContext) -> Bytes {
        switch command.array.first {
        case UInt8(ascii: "+"):
            tasks.append(command[1..<command.count].array)
            return Bytes("\(tasks.count)")
        case UInt8(ascii: "-"): return tasks.isEmpty ? "" : Bytes(tasks.removeFirst())
        // Answered, not trapped on: the command is in every replica's log already.
        default: return "no such command"
        }
    }

    func query(_ request: Bytes) -> Bytes { Bytes("\(tasks.count)") }

    func writeSnapshot(to writer: any SnapshotWriter) {
        var bytes = ByteWriter()
        for task in tasks { bytes.appendLengthPrefixed(Bytes(task)) }
        writer.write(bytes.take())
    }

    func restore(from reader: any SnapshotReader) throws {
        var bytes: [UInt8] = []
        while let piece = try reader.read() { bytes += piece.array }
        var rest = ByteReader(Bytes(bytes))
        tasks = []
        while rest.remaining > 0 { tasks.append(try rest.readLengthPrefixed().array) }
    }

    func copyForSnapshot() -> any StateMachine {
        let copy = TaskQueue()
        copy.tasks = tasks  // Not copied before either changes it.
        return copy
    }
}

func runQueue(directory: String) async throws -> [String] {
    let node = try await Node.start(
        configuration: Configuration(directory: directory),
        stateMachine: { _, _ in TaskQueue() })
    _ = try await node.propose("+write the report")
    _ = try await node.propose("+send it")
    let first = try await node.propose("-")
    let left = try await node.query("length")
    await node.stop()
    return [first.text ?? "?", left.text ?? "?"]
}
