// A cluster of nodes driven by hand: what the interaction files talk to. Nothing happens in it that
// no command asked for.

import UkehiBase

@testable import UkehiRaft

/// One node with its disk, its state machine and the work waiting for its storage.
final class InteractionNode {
    var raft: RawNode
    let storage: HistoryStorage
    let isAsync: Bool
    let electionTicks: Int
    let heartbeatTicks: Int
    var appendWork: [Message] = []
    var applyWork: [Message] = []

    init(
        configuration: RaftConfiguration, storage: HistoryStorage
    ) throws(RaftError) {
        raft = try RawNode(configuration: configuration, storage: storage)
        self.storage = storage
        isAsync = configuration.asyncStorageWrites
        electionTicks = configuration.electionTicks
        heartbeatTicks = configuration.heartbeatTicks
    }
}

/// A storage whose snapshot is always of everything applied.
final class HistoryStorage: MemoryLogStorage {
    /// The state after each applied entry.
    var history: [Snapshot]

    init(_ first: Snapshot) {
        history = [first]
        super.init(configuration: first.configuration)
    }

    override func snapshot() throws(LogStorageError) -> Snapshot { history[history.count - 1] }
}

/// The levels a file can set, in order; the last one silences everything but errors.
enum LogLevel: Int, CaseIterable {
    case debug, info, warn, error, fatal, none

    init?(_ name: String) {
        guard let found = Self.allCases.first(where: { "\($0)" == name.lowercased() }) else {
            return nil
        }
        self = found
    }
}

/// The nodes, the network between them, and what was said so far.
final class InteractionCluster {
    var nodes: [InteractionNode] = []
    /// Sent and not yet delivered.
    var network: [Message] = []
    var level = LogLevel.debug
    private(set) var output = ""

    var isQuiet: Bool { level == .none }

    func write(_ text: String) {
        if !isQuiet { output += text }
    }

    func takeOutput() -> String {
        defer { output = "" }
        return output
    }

    func withIndent(_ body: () throws -> Void) rethrows {
        let outer = output
        output = ""
        defer {
            var lines = output.split(separator: "\n", omittingEmptySubsequences: false)
            if lines.last == "" { lines.removeLast() }
            output = outer + lines.map { "  \($0)\n" }.joined()
        }
        try body()
    }

    func node(_ id: UInt64) throws(TranscriptError) -> InteractionNode {
        guard id >= 1, id <= UInt64(nodes.count) else {
            throw TranscriptError("there is no node \(id)")
        }
        return nodes[Int(id) - 1]
    }

    // MARK: Storage

    private func append(
        _ node: InteractionNode, _ state: HardState?, _ entries: [Entry], _ snapshot: Snapshot?
    ) throws {
        if let state, !state.isEmpty { node.storage.setHardState(state) }
        if let snapshot, !snapshot.isEmpty {
            guard entries.isEmpty else {
                throw ReportedError("can't apply snapshot and entries at the same time")
            }
            do {
                try node.storage.apply(snapshot)
            } catch {
                throw ReportedError("requested index is older than the existing snapshot")
            }
            return
        }
        try node.storage.append(entries)
    }

    /// A state machine that appends: its state is all commands so far, one after the other.
    private func apply(_ node: InteractionNode, _ entries: [Entry]) throws {
        for entry in entries {
            var state = node.storage.history[node.storage.history.count - 1].configuration
            var update = entry.data
            if entry.kind != .normal {
                let change = try ConfigurationChange.decode(entry)
                update = change.context
                state = try node.raft.applyConfChange(change)
            }
            let last = node.storage.history[node.storage.history.count - 1]
            node.storage.history.append(
                Snapshot(
                    index: entry.index, term: entry.term, configuration: state,
                    data: Bytes(last.data.array + update.array)))
        }
    }

    // MARK: Work

    func processReady(_ node: InteractionNode) throws {
        var ready = Ready()
        node.raft.takeReady(into: &ready)
        write(Describe.ready(ready))
        if !node.isAsync {
            try append(node, ready.hardState, ready.entries, ready.snapshot)
            try apply(node, ready.committedEntries)
        }
        for message in ready.messages {
            switch message.to {
            case .localAppend: node.appendWork.append(message)
            case .localApply: node.applyWork.append(message)
            default: network.append(message)
            }
        }
        if !node.isAsync { node.raft.advance() }
    }

    func processAppend(_ node: InteractionNode) throws {
        guard !node.appendWork.isEmpty else {
            write("no append work to perform")
            return
        }
        var message = node.appendWork.removeFirst()
        let responses = message.responses
        message.responses = []
        write("Processing:\n" + Describe.message(message) + "\n")
        let state = HardState(term: message.term, vote: message.vote, commit: message.commit)
        try append(node, state, message.entries, message.snapshot)
        finish(responses)
    }

    func processApply(_ node: InteractionNode) throws {
        guard !node.applyWork.isEmpty else {
            write("no apply work to perform")
            return
        }
        var message = node.applyWork.removeFirst()
        let responses = message.responses
        message.responses = []
        write("Processing:\n" + Describe.message(message) + "\n")
        try apply(node, message.entries)
        finish(responses)
    }

    private func finish(_ responses: [Message]) {
        write("Responses:\n")
        for response in responses { write(Describe.message(response) + "\n") }
        network += responses
    }

    /// Delivers or drops what waits for `id`; returns how many messages that were.
    @discardableResult
    func deliver(to id: PeerID, kind: MessageKind?, drop: Bool) throws -> Int {
        func isReliable(_ message: Message) -> Bool {
            message.from == message.to || message.from.isLocalTarget || message.to.isLocalTarget
        }
        var chosen: [Message] = []
        var rest: [Message] = []
        for message in network {
            if message.to == id, !(drop && isReliable(message)),
                kind == nil || message.kind == kind
            {
                chosen.append(message)
            } else {
                rest.append(message)
            }
        }
        network = rest
        for message in chosen {
            write((drop ? "dropped: " : "") + Describe.message(message) + "\n")
            if drop { continue }
            do {
                try node(id.rawValue).raft.step(message)
            } catch let error as RaftError {
                guard let text = Describe.error(error) else { throw error }
                write(text + "\n")
            }
        }
        return chosen.count
    }

    /// Runs everything on `ids` until nothing is left to do.
    func stabilize(_ ids: [UInt64]) throws {
        let chosen = ids.isEmpty ? nodes.indices.map { UInt64($0) + 1 } : ids
        var isDone = false
        var rounds = 0
        while !isDone {
            rounds += 1
            guard rounds <= 10_000 else { throw TranscriptError("never comes to rest") }
            isDone = true
            for id in chosen where try node(id).raft.hasReady {
                write("> \(id) handling Ready\n")
                try withIndent { try processReady(node(id)) }
                isDone = false
            }
            for id in chosen where network.contains(where: { $0.to == PeerID(id) }) {
                write("> \(id) receiving messages\n")
                try withIndent { try deliver(to: PeerID(id), kind: nil, drop: false) }
                isDone = false
            }
            for id in chosen where try !node(id).appendWork.isEmpty {
                write("> \(id) processing append thread\n")
                while try !node(id).appendWork.isEmpty {
                    try withIndent { try processAppend(node(id)) }
                }
                isDone = false
            }
            for id in chosen where try !node(id).applyWork.isEmpty {
                write("> \(id) processing apply thread\n")
                while try !node(id).applyWork.isEmpty {
                    try withIndent { try processApply(node(id)) }
                }
                isDone = false
            }
        }
    }

    func printLog(_ node: InteractionNode) {
        let storage = node.storage
        if storage.lastIndex < storage.firstIndex {
            write(
                "log is empty: first index=\(storage.firstIndex), last index=\(storage.lastIndex)")
        } else {
            write(Describe.entries(storage.allEntries))
        }
    }
}
