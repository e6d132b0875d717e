// Linearizable reads (thesis §6.4): the commit index now, once it is sure that we still lead.

import UkehiBase

extension RaftCore {
    /// Asks for a read index, for the layer above or for a follower that asked us.
    mutating func readIndex(context: Bytes, from: PeerID) throws(RaftError) {
        let request = ReadQueue.Request(from: from, context: context, index: log.committed)
        if configuration.isSingleton, configuration.voters.contains(id) {
            answer(request)
            return
        }
        guard office.reads.count + office.earlyReads.count < RaftLimits.maxWaitingReads else {
            throw .overloaded
        }
        // Before the first commit of our term we may not know of commits of earlier ones (RULES 52).
        #if BugBank
            if PlantedBug.readsBeforeOwnCommit.isPlanted { return start(request) }
        #endif
        if log.term(at: log.committed) == term {
            start(request)
        } else {
            office.earlyReads.append(request)
        }
    }

    /// Starts the reads that waited for the first commit of the term.
    mutating func releaseEarlyReads() {
        guard let office = heldOffice, !office.earlyReads.isEmpty,
            log.term(at: log.committed) == term
        else { return }
        var requests: [ReadQueue.Request] = []
        swap(&requests, &office.earlyReads)
        for var request in requests {
            request.index = log.committed
            start(request)
        }
    }

    private mutating func start(_ request: ReadQueue.Request) {
        #if BugBank
            if PlantedBug.readsUnconfirmed.isPlanted { return answer(request) }
        #endif
        if settings.flags.contains(.leaseReads) {
            answer(request)
            return
        }
        let office = self.office
        office.reads.add(request)
        _ = office.reads.acknowledge(office.reads.lastPosition, by: id)
        broadcastHeartbeat(context: office.reads.heartbeatContext)
    }

    /// Takes what a heartbeat response says about our leadership.
    mutating func confirmReads(_ message: Message) {
        guard !message.context.isEmpty, !settings.flags.contains(.leaseReads),
            let position = ReadQueue.decode(message.context), let office = heldOffice
        else { return }
        #if BugBank
            if PlantedBug.anyAnswerConfirmsReads.isPlanted {
                _ = office.reads.acknowledge(office.reads.lastPosition, by: message.from)
            }
        #endif
        guard office.reads.acknowledge(position, by: message.from) else { return }
        answerConfirmedReads()
    }

    /// Answers the reads that a quorum of the configuration as it is now has confirmed.
    mutating func answerConfirmedReads() {
        guard let office = heldOffice, office.reads.count > 0 else { return }
        for request in office.reads.takeConfirmed(configuration) { answer(request) }
    }

    private mutating func answer(_ request: ReadQueue.Request) {
        if request.from == .none || request.from == id {
            readStates.append(ReadState(index: request.index, context: request.context))
        } else {
            messages.append(
                Message(
                    kind: .readIndexResponse, to: request.from, from: id, term: term,
                    index: request.index, context: request.context))
        }
    }
}
