from connexion import FlaskApp
from flask import request

SPECIFICATION = """
openapi: "3.0.0"
info: {title: smoke, version: "1"}
paths:
  /answer:
    post:
      operationId: %s.answer
      requestBody: {content: {application/json: {schema: {type: object}}}}
      responses: {200: {description: ok}}
"""


def answer(body):
    return {"body": body, "method": request.method}


def test_an_operation_of_a_flask_application_answers(tmp_path):
    (tmp_path / "api.yaml").write_text(SPECIFICATION % __name__, "utf-8")
    app = FlaskApp(__name__, specification_dir=str(tmp_path))
    app.add_api("api.yaml")
    with app.test_client() as client:
        answered = client.post("/answer", json={"number": 1})
    assert answered.json() == {"body": {"number": 1}, "method": "POST"}
