def model_card(scores, work):
    return ""
