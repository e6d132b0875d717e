// The commands of the interaction files. Setting up nodes is in InteractionInterpreter+Nodes.swift.
//
// Three kinds of trouble: what the reference writes into its output is compared like the rest
// (ReportedError, and the core's and the storage's own errors where it words them); what it would not
// run, and what we don't know, stops the file with its line (TranscriptError and any other error).

import UkehiBase

@testable import UkehiRaft

struct InteractionInterpreter {
    let cluster = InteractionCluster()

    /// Runs one directive and returns its output; further commands may stand in its input, one a line.
    func run(_ directive: Directive) throws -> String {
        do {
            if directive.command == "propose-conf-change" {
                try proposeConfChange(directive.commandLine, directive.input)
            } else {
                try handle(directive.commandLine)
                for line in directive.input.split(separator: "\n") {
                    try runFurther(String(line))
                }
            }
        } catch {
            guard let text = Describe.error(error) else { throw error }
            // Errors are told even where everything else is silenced.
            if cluster.isQuiet {
                _ = cluster.takeOutput()
                return text
            }
            cluster.write(text)
        }
        let output = cluster.takeOutput()
        return output.isEmpty ? "ok" : output
    }

    /// A command after the first: its error does not keep the next ones from being run.
    private func runFurther(_ line: String) throws {
        let commandLine = try CommandLine(line)
        do {
            try handle(commandLine)
        } catch {
            guard !cluster.isQuiet, let text = Describe.error(error) else { throw error }
            cluster.write(text)
        }
    }

    private func handle(_ line: CommandLine) throws {
        switch line.command {
        case "_breakpoint":
            try line.takes(words: 0...0)
        case "add-nodes":
            try addNodes(line)
        case "campaign":
            try only(line).raft.campaign()
        case "compact":
            try compact(line)
        case "deliver-msgs":
            try deliver(line)
        case "process-ready":
            try forEach(line, "handling Ready", cluster.processReady)
        case "process-append-thread":
            try forEach(line, "processing append thread", cluster.processAppend)
        case "process-apply-thread":
            try forEach(line, "processing apply thread", cluster.processApply)
        case "log-level":
            try line.takes(words: 1...1)
            try setLevel(line.words[0])
        case "raft-log":
            cluster.printLog(try only(line))
        case "raft-state":
            try line.takes(words: 0...0)
            printState()
        case "set-randomized-election-timeout":
            let ticks = try line.number("timeout")
            guard ticks > 0, ticks <= Int32.max else {
                throw TranscriptError("a timeout of \(ticks) ticks")
            }
            try only(line, options: ["timeout"]).raft.setElectionTimeout(ticks: Int(ticks))
        case "stabilize":
            try stabilize(line)
        case "status":
            for peer in try only(line).raft.status.progress {
                cluster.write(peer.etcdDescription + "\n")
            }
        case "tick-election":
            let node = try only(line)
            for _ in 0..<node.electionTicks { node.raft.tick() }
        case "tick-heartbeat":
            let node = try only(line)
            for _ in 0..<node.heartbeatTicks { node.raft.tick() }
        case "tick":
            try line.takes(words: 2...2)
            let ids = try line.ids()
            for _ in 0..<ids[1] { try cluster.node(ids[0]).raft.tick() }
        case "transfer-leadership":
            try line.takes(words: 0...0, options: ["from", "to"])
            let to = try line.number("to")
            _ = try cluster.node(to)
            try cluster.node(try line.number("from")).raft.transferLeadership(to: PeerID(to))
        case "forget-leader":
            try only(line).raft.forgetLeader()
        case "send-snapshot":
            try sendSnapshot(line)
        case "propose":
            try line.takes(words: 2...2)
            try cluster.node(try CommandLine.number(line.words[0]))
                .raft.propose(Bytes(line.words[1]))
        case "report-unreachable":
            let ids = try line.ids()
            try line.takes(words: 0...ids.count)
            guard ids.count == 2 else {
                throw ReportedError(
                    "must specify exactly two node indexes: node on which to report, and "
                        + "reported node")
            }
            _ = try cluster.node(ids[1])
            try cluster.node(ids[0]).raft.reportUnreachable(PeerID(ids[1]))
        case "report-snapshot", "read-index":
            try handleOwn(line)
        default:
            throw ReportedError("unknown command")
        }
    }

    /// Commands the reference does not have, for files of our own.
    private func handleOwn(_ line: CommandLine) throws {
        try line.takes(words: 2...2, options: line.command == "read-index" ? [] : ["ok"])
        let node = try cluster.node(try CommandLine.number(line.words[0]))
        if line.command == "read-index" {
            try node.raft.readIndex(context: Bytes(line.words[1]))
        } else {
            let ok = try line.values("ok").map { try CommandLine.isTrue($0) }.last ?? true
            node.raft.reportSnapshot(
                PeerID(try CommandLine.number(line.words[1])), ok: ok)
        }
    }

    // MARK: Arguments

    /// The one node a command names.
    private func only(
        _ line: CommandLine, options: Set<String> = []
    ) throws -> InteractionNode {
        try line.takes(words: 1...1, options: options)
        return try cluster.node(try CommandLine.number(line.words[0]))
    }

    private func forEach(
        _ line: CommandLine, _ what: String, _ body: (InteractionNode) throws -> Void
    ) throws {
        let ids = try line.ids()
        try line.takes(words: 0...ids.count)
        for id in ids {
            if ids.count > 1 {
                cluster.write("> \(id) \(what)\n")
                try cluster.withIndent { try body(cluster.node(id)) }
            } else {
                try body(cluster.node(id))
            }
        }
    }

    private func setLevel(_ name: String) throws {
        guard let level = LogLevel(name) else {
            throw ReportedError(
                "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]")
        }
        cluster.level = level
    }

    // MARK: Commands

    private func compact(_ line: CommandLine) throws {
        try line.takes(words: 2...2)
        let ids = try line.ids()
        let node = try cluster.node(ids[0])
        guard LogIndex(ids[1]) <= node.storage.lastIndex else {
            throw TranscriptError("the log ends before \(ids[1])")
        }
        try node.storage.compact(to: LogIndex(ids[1]))
        cluster.printLog(node)
    }

    private func stabilize(_ line: CommandLine) throws {
        let ids = try line.ids()
        try line.takes(words: 0...ids.count, options: ["log-level"])
        let before = cluster.level
        defer { cluster.level = before }
        for level in line.values("log-level") { try setLevel(level) }
        try cluster.stabilize(ids)
    }

    private func deliver(_ line: CommandLine) throws {
        try line.takes(words: 0...line.words.count, options: ["drop", "type"])
        var kind: MessageKind?
        for name in line.values("type") {
            kind = MessageKind(etcdName: name)
            if kind == nil { throw TranscriptError("unknown message type \(name)") }
        }
        var receivers: [(id: UInt64, drop: Bool)] = []
        for argument in line.arguments {
            if argument.values.isEmpty {
                receivers.append((try CommandLine.number(argument.key), false))
            } else if argument.key == "drop" {
                for value in argument.values {
                    let id = try CommandLine.number(value)
                    if receivers.contains(where: { $0.id == id }) {
                        throw TranscriptError("can't both deliver and drop msgs to \(id)")
                    }
                    receivers.append((id, true))
                }
            }
        }
        var handled = 0
        for receiver in receivers {
            handled += try cluster.deliver(
                to: PeerID(receiver.id), kind: kind, drop: receiver.drop)
        }
        if handled == 0 { cluster.write("no messages\n") }
    }

    private func proposeConfChange(_ line: CommandLine, _ input: String) throws {
        try line.takes(words: 1...1, options: Set(line.arguments.map(\.key)))
        let node = try cluster.node(try CommandLine.number(line.words[0]))
        var isLegacy = false
        var transition = ConfigurationChange.Transition.automatic
        for argument in line.arguments {
            for value in argument.values {
                switch (argument.key, value) {
                case ("v1", _):
                    guard let truth = CommandLine.parseBool(value) else {
                        throw ReportedError(
                            "strconv.ParseBool: parsing \(Describe.quoted(Bytes(value))): "
                                + "invalid syntax")
                    }
                    isLegacy = truth
                case ("transition", "auto"): transition = .automatic
                case ("transition", "implicit"): transition = .jointImplicit
                case ("transition", "explicit"): transition = .jointExplicit
                case ("transition", _): throw ReportedError("unknown transition \(value)")
                default: throw ReportedError("unknown command \(argument.key)")
                }
            }
        }
        let change = ConfigurationChange(try parseSteps(input), transition: transition)
        if isLegacy, change.steps.count > 1 || transition != .automatic {
            throw ReportedError(
                "v1 conf change can only have one operation and no transition")
        }
        guard !isLegacy || change.isSingleStep else {
            throw TranscriptError("a v1 conf change without an operation")
        }
        try node.raft.proposeConfChange(change, legacy: isLegacy)
    }

    private func sendSnapshot(_ line: CommandLine) throws {
        try line.takes(words: 2...2)
        let ids = try line.ids()
        let node = try cluster.node(ids[0])
        let message = Message(
            kind: .installSnapshot, to: PeerID(ids[1]), from: PeerID(ids[0]),
            term: node.raft.term, snapshot: try node.storage.snapshot())
        cluster.network.append(message)
        cluster.write(Describe.message(message))
    }

    private func printState() {
        for node in cluster.nodes {
            let status = node.raft.status
            let voter = status.configuration.isVoter(status.id) ? "(Voter)" : "(Non-Voter)"
            cluster.write(
                "\(status.id.rawValue): \(status.softState.role.etcdName) \(voter) "
                    + "Term:\(status.hardState.term) Lead:\(status.softState.leader.rawValue)\n")
        }
    }
}
