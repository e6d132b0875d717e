// The commands of the interaction files.

import UkehiBase

@testable import UkehiRaft

struct InteractionInterpreter {
    let cluster = InteractionCluster()

    /// Runs one directive; further commands may stand in its input, one a line.
    func run(_ directive: Directive) -> String {
        var failure: (any Error)?
        do {
            try handle(directive.command, directive.arguments, directive.input)
            if directive.command != "propose-conf-change" {
                for line in directive.input.split(separator: "\n") {
                    let (command, arguments) = try parseDirectiveLine(String(line))
                    do {
                        try handle(command, arguments, "")
                    } catch {
                        if cluster.isQuiet { throw error }
                        cluster.write(Describe.error(error))
                    }
                }
            }
        } catch {
            failure = error
        }
        if let failure {
            // Errors are told even where everything else is silenced.
            if cluster.isQuiet {
                _ = cluster.takeOutput()
                return Describe.error(failure)
            }
            cluster.write(Describe.error(failure))
        }
        let output = cluster.takeOutput()
        return output.isEmpty ? "ok" : output
    }

    private func handle(
        _ command: String, _ arguments: [DirectiveArgument], _ input: String
    ) throws {
        let directive = Directive(
            command: command, arguments: arguments, input: input, expected: [], line: 0)
        switch command {
        case "_breakpoint":
            break
        case "add-nodes":
            try addNodes(directive)
        case "campaign":
            try first(directive).raft.campaign()
        case "compact":
            let node = try first(directive)
            guard directive.words.count == 2, let index = UInt64(directive.words[1]) else {
                throw DataDrivenError("compact takes a node and an index")
            }
            try node.storage.compact(to: LogIndex(index))
            cluster.printLog(node)
        case "deliver-msgs":
            try deliver(directive)
        case "process-ready":
            try forEach(directive, "handling Ready", cluster.processReady)
        case "process-append-thread":
            try forEach(directive, "processing append thread", cluster.processAppend)
        case "process-apply-thread":
            try forEach(directive, "processing apply thread", cluster.processApply)
        case "log-level":
            try setLevel(directive.words.first ?? "")
        case "raft-log":
            cluster.printLog(try first(directive))
        case "raft-state":
            printState()
        case "set-randomized-election-timeout":
            guard let ticks = directive.values("timeout").first.flatMap(Int.init) else {
                throw DataDrivenError("no timeout")
            }
            try first(directive).raft.setElectionTimeout(ticks: ticks)
        case "stabilize":
            let before = cluster.level
            defer { cluster.level = before }
            for level in directive.values("log-level") { try setLevel(level) }
            try cluster.stabilize(ids(directive))
        case "status":
            for peer in try first(directive).raft.status.progress {
                cluster.write(peer.etcdDescription + "\n")
            }
        case "tick-election":
            let node = try first(directive)
            for _ in 0..<node.electionTicks { node.raft.tick() }
        case "tick-heartbeat":
            let node = try first(directive)
            for _ in 0..<node.heartbeatTicks { node.raft.tick() }
        case "tick":
            let node = try first(directive)
            guard directive.words.count == 2, let count = Int(directive.words[1]) else {
                throw DataDrivenError("tick takes a node and a count")
            }
            for _ in 0..<count { node.raft.tick() }
        case "transfer-leadership":
            guard let from = directive.values("from").first.flatMap(UInt64.init),
                let to = directive.values("to").first.flatMap(UInt64.init)
            else { throw DataDrivenError("transfer-leadership takes from and to") }
            _ = try cluster.node(to)
            try cluster.node(from).raft.transferLeadership(to: PeerID(to))
        case "forget-leader":
            try first(directive).raft.forgetLeader()
        case "send-snapshot":
            try sendSnapshot(directive)
        case "propose":
            guard directive.arguments.count == 2 else {
                throw DataDrivenError("propose takes a node and a word")
            }
            try first(directive).raft.propose(Bytes(directive.arguments[1].key))
        case "propose-conf-change":
            try proposeConfChange(directive)
        case "report-unreachable":
            let ids = try ids(directive)
            guard ids.count == 2 else {
                throw DataDrivenError(
                    "must specify exactly two node indexes: node on which to report, and "
                        + "reported node")
            }
            try cluster.node(ids[0]).raft.reportUnreachable(PeerID(ids[1]))
        case "report-snapshot":
            let ids = try ids(directive)
            guard ids.count == 2 else { throw DataDrivenError("report-snapshot takes two nodes") }
            try cluster.node(ids[0]).raft.reportSnapshot(
                PeerID(ids[1]), ok: directive.values("ok") != ["false"])
        case "read-index":
            guard directive.arguments.count == 2 else {
                throw DataDrivenError("read-index takes a node and a word")
            }
            try first(directive).raft.readIndex(context: Bytes(directive.arguments[1].key))
        default:
            throw DataDrivenError("unknown command")
        }
    }

    // MARK: Arguments

    private func ids(_ directive: Directive) throws -> [UInt64] {
        try directive.words.map { word in
            guard let id = UInt64(word) else { throw DataDrivenError("no node: \(word)") }
            return id
        }
    }

    private func first(_ directive: Directive) throws -> InteractionNode {
        guard let id = directive.words.first.flatMap(UInt64.init) else {
            throw DataDrivenError("\(directive.command) takes a node")
        }
        return try cluster.node(id)
    }

    private func forEach(
        _ directive: Directive, _ what: String, _ body: (InteractionNode) throws -> Void
    ) throws {
        let ids = try ids(directive)
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
            throw DataDrivenError(
                "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]")
        }
        cluster.level = level
    }

    // MARK: Commands

    private func addNodes(_ directive: Directive) throws {
        guard let count = directive.words.first.flatMap(Int.init) else {
            throw DataDrivenError("add-nodes takes a count")
        }
        var settings = RaftConfiguration(id: PeerID(1), electionTicks: 3, heartbeatTicks: 1)
        settings.maxInflightMessages = Int(Int32.max)
        var snapshot = Snapshot.empty
        for argument in directive.arguments.dropFirst() {
            for value in argument.values {
                func number() throws -> UInt64 {
                    guard let number = UInt64(value) else {
                        throw DataDrivenError("\(argument.key) is no number: \(value)")
                    }
                    return number
                }
                switch argument.key {
                case "voters": snapshot.configuration.voters.append(PeerID(try number()))
                case "learners": snapshot.configuration.learners.append(PeerID(try number()))
                case "inflight": settings.maxInflightMessages = Int(try number())
                case "max-inflight-bytes": settings.maxInflightBytes = try number()
                case "max-size-per-msg": settings.maxMessageBytes = try number()
                case "max-uncommitted-size": settings.maxUncommittedBytes = try number()
                case "index":
                    snapshot.index = LogIndex(try number())
                    settings.applied = snapshot.index
                case "content": snapshot.data = Bytes(value)
                case "async-storage-writes": settings.asyncStorageWrites = value == "true"
                case "prevote": settings.preVote = value == "true"
                case "checkquorum": settings.checkQuorum = value == "true"
                case "max-committed-size-per-ready":
                    settings.maxCommittedBytesPerReady = try number()
                case "disable-conf-change-validation":
                    settings.disableConfChangeValidation = value == "true"
                case "disable-proposal-forwarding":
                    settings.disableProposalForwarding = value == "true"
                case "heartbeat-tick": settings.heartbeatTicks = Int(try number())
                case "election-tick": settings.electionTicks = Int(try number())
                case "step-down-on-removal": settings.stepDownOnRemoval = value == "true"
                case "read-only":
                    switch value {
                    case "safe": settings.readMode = .quorum
                    case "lease-based": settings.readMode = .lease
                    default:
                        throw DataDrivenError("invalid read-only option \"\(value)\"")
                    }
                default: break
                }
            }
        }
        let isBootstrapped = snapshot != .empty
        if isBootstrapped {
            guard snapshot.index > LogIndex(1) else {
                throw DataDrivenError("index must be specified as > 1 due to bootstrap")
            }
            snapshot.term = Term(1)
        }
        for _ in 0..<count {
            settings.id = PeerID(UInt64(cluster.nodes.count) + 1)
            settings.seed = settings.id.rawValue
            let storage = HistoryStorage(snapshot)
            if isBootstrapped { try storage.apply(snapshot) }
            cluster.nodes.append(
                try InteractionNode(configuration: settings, storage: storage))
        }
    }

    private func deliver(_ directive: Directive) throws {
        var kind: MessageKind?
        if let name = directive.values("type").first {
            kind = MessageKind(etcdName: name)
            if kind == nil { throw DataDrivenError("unknown message type \(name)") }
        }
        var handled = 0
        for argument in directive.arguments {
            if argument.values.isEmpty, let id = UInt64(argument.key) {
                handled += try cluster.deliver(to: PeerID(id), kind: kind, drop: false)
            } else if argument.key == "drop" {
                for id in argument.values.compactMap(UInt64.init) {
                    handled += try cluster.deliver(to: PeerID(id), kind: kind, drop: true)
                }
            }
        }
        if handled == 0 { cluster.write("no messages\n") }
    }

    private func proposeConfChange(_ directive: Directive) throws {
        let node = try first(directive)
        var isLegacy = false
        var transition = ConfigurationChange.Transition.automatic
        for argument in directive.arguments.dropFirst() {
            for value in argument.values {
                switch (argument.key, value) {
                case ("v1", _): isLegacy = ["true", "1", "t", "T", "TRUE", "True"].contains(value)
                case ("transition", "auto"): transition = .automatic
                case ("transition", "implicit"): transition = .jointImplicit
                case ("transition", "explicit"): transition = .jointExplicit
                case ("transition", _): throw DataDrivenError("unknown transition \(value)")
                default: throw DataDrivenError("unknown command \(argument.key)")
                }
            }
        }
        let change = ConfigurationChange(
            try parseSteps(directive.input), transition: transition)
        if isLegacy, change.steps.count > 1 || transition != .automatic {
            throw DataDrivenError("v1 conf change can only have one operation and no transition")
        }
        try node.raft.proposeConfChange(change, legacy: isLegacy)
    }

    private func sendSnapshot(_ directive: Directive) throws {
        let ids = try ids(directive)
        guard ids.count == 2 else { throw DataDrivenError("send-snapshot takes two nodes") }
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
