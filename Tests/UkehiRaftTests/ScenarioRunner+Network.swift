// The network of a scenario: messages wait in the order they were sent until a directive moves them.

import UkehiBase

@testable import UkehiRaft

extension ScenarioRunner {
    func network(_ name: String, _ words: inout ScenarioWords) throws {
        switch name {
        case "deliver": try deliver(&words)
        case "drop":
            let chosen = try choose(&words, verb: name)
            try words.finish()
            let cluster = try cluster(words)
            for place in chosen {
                output.append("\(ScenarioText.message(cluster.network[place])) (dropped)")
            }
            remove(chosen, cluster)
        case "hold": try hold(&words)
        case "release":
            try words.finish()
            guard !held.isEmpty else { throw words.failure("nothing is held") }
            try cluster(words).network += held
            held = []
        case "inject": try inject(&words)
        case "stabilize": try stabilize(&words)
        case "partition":
            var groups = try words.numbers().map { [$0] }
            groups += try words.lists()
            try words.finish()
            guard !groups.isEmpty else { throw words.failure("who is parted from the others?") }
            sides = [:]
            for (side, group) in groups.enumerated() {
                for id in group {
                    guard id >= 1, id <= UInt64(try cluster(words).peers.count) else {
                        throw words.failure("there is no peer \(id)")
                    }
                    sides[id] = side + 1
                }
            }
        case "heal":
            try words.finish()
            sides = [:]
        default: throw words.failure("unknown directive '\(name)'")
        }
    }

    /// Places in the network of the messages that `from=`, `to=`, `kind=` and `nth=` choose.
    private func choose(
        _ words: inout ScenarioWords, verb: String
    ) throws -> [Int] {
        let cluster = try cluster(words)
        let from = try words.numberValues("from")
        let to = try words.numberValues("to")
        let kind = try words.value("kind")
        let nth = try words.numberValue("nth")
        let waiting = cluster.network
        let known = (0...UInt8.max).compactMap(MessageKind.init).map { "\($0)" }
        if let kind, !known.contains(kind) { throw words.failure("no message is a '\(kind)'") }
        var chosen = waiting.indices.filter { place in
            let message = waiting[place]
            return from?.contains(message.from.rawValue) != false
                && to?.contains(message.to.rawValue) != false
                && (kind == nil || kind == "\(message.kind)")
        }
        if let nth {
            guard nth >= 1, nth <= UInt64(chosen.count) else {
                throw words.failure("\(chosen.count) messages match, so there is no nth=\(nth)")
            }
            chosen = [chosen[Int(nth) - 1]]
        }
        guard !chosen.isEmpty else { throw words.failure("there is no such message to \(verb)") }
        return chosen
    }

    /// Keeps back what is chosen until `release`: the network is slow with it.
    private func hold(_ words: inout ScenarioWords) throws {
        let chosen = try choose(&words, verb: "hold")
        try words.finish()
        let cluster = try cluster(words)
        for place in chosen {
            held.append(cluster.network[place])
            output.append("\(ScenarioText.message(cluster.network[place])) (held)")
        }
        remove(chosen, cluster)
    }

    private func remove(_ places: [Int], _ cluster: RaftCluster) {
        for place in places.reversed() { cluster.network.remove(at: place) }
    }

    /// Delivers what is chosen, in order; with `keep` copies stay, as if the network had doubled it.
    private func deliver(_ words: inout ScenarioWords) throws {
        let isKept = words.flag("keep")
        let chosen = try choose(&words, verb: "deliver")
        try words.finish()
        let cluster = try cluster(words)
        let messages = chosen.map { cluster.network[$0] }
        if !isKept { remove(chosen, cluster) }
        for message in messages {
            if isCut(message, cluster) {
                output.append("\(ScenarioText.message(message)) (lost)")
            } else {
                hand(message, to: cluster, isQuiet: false)
            }
        }
    }

    /// Delivers a message that was never sent: one so late that no order of directives makes it.
    private func inject(_ words: inout ScenarioWords) throws {
        let cluster = try cluster(words)
        func id(_ key: String) throws(ScenarioError) -> UInt64 {
            guard let id = try words.numberValue(key) else { throw words.failure("\(key)= who?") }
            return id
        }
        let target = try peer(try id("to"), words)
        var message = Message(kind: .appendEntries, to: target.id, from: PeerID(try id("from")))
        message.term = Term(try words.numberValue("term") ?? 0)
        if words.flag("appendEntries") {
            guard let previous = try words.value("prev") else { throw words.failure("prev=?") }
            (message.index, message.logTerm) = try place(previous, words)
            message.commit = LogIndex(try words.numberValue("commit") ?? 0)
            for entry in try words.values("entries") ?? [] {
                let (index, term) = try place(entry, words)
                message.entries.append(Entry(term: term, index: index))
            }
        } else if words.flag("appendEntriesResponse") {
            message.kind = .appendEntriesResponse
            message.index = LogIndex(try words.numberValue("match") ?? 0)
        } else {
            throw words.failure("inject makes appendEntries or appendEntriesResponse")
        }
        try words.finish()
        hand(message, to: cluster, isQuiet: false)
    }

    /// `3:2`, index 3 of term 2.
    private func place(
        _ text: String, _ words: ScenarioWords
    ) throws(ScenarioError) -> (LogIndex, Term) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw words.failure("'\(text)' is not index:term") }
        return (
            LogIndex(try words.number(String(parts[0]))), Term(try words.number(String(parts[1])))
        )
    }

    /// Whether a message can't arrive: its target is down, on another side, or not there at all.
    private func isCut(_ message: Message, _ cluster: RaftCluster) -> Bool {
        let target = message.to.rawValue
        return target > UInt64(cluster.peers.count) || down.contains(target)
            || sides[message.from.rawValue] != sides[target]
    }

    private func hand(_ message: Message, to cluster: RaftCluster, isQuiet: Bool) {
        let peer = cluster[message.to.rawValue]
        do {
            try peer.raft.step(message)
            if !isQuiet { output.append(ScenarioText.message(message)) }
        } catch {
            output.append(
                "\(ScenarioText.message(message)) (refused: \(ScenarioText.refusal(error)))")
        }
        cluster.collect(peer)
        sayChanges(of: peer)
    }

    /// Works and delivers until nothing is left. What can't arrive is lost without a word.
    private func stabilize(_ words: inout ScenarioWords) throws {
        let isQuiet = words.flag("quiet")
        try words.finish()
        let cluster = try cluster(words)
        for _ in 0..<1_000 {
            for peer in cluster.peers where !down.contains(peer.id.rawValue) {
                try cluster.work(peer)
                sayChanges(of: peer)
            }
            let messages = cluster.take { _ in true }
            if messages.isEmpty { return }
            for message in messages where !isCut(message, cluster) {
                hand(message, to: cluster, isQuiet: isQuiet)
            }
        }
        throw words.failure("the group does not come to rest")
    }
}
